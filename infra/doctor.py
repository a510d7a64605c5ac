"""`inferwatch doctor`: says what works on this machine, what does not, and what to do. Changes nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import click

from infra import diagnosis, diagnosis_parts
from infra.diagnosis import Finding
from infra.exit_codes import EXIT_CONFIGURATION
from infra.settings import SettingsError

CHECKS: tuple[Callable[[], Finding], ...] = (
    diagnosis.check_platform,
    diagnosis.check_python,
    diagnosis.check_packages,
    diagnosis.check_cores,
    diagnosis.check_memory,
    diagnosis.check_open_files,
    diagnosis.check_loopback,
    diagnosis.check_settings,
    diagnosis.check_disk,
    diagnosis_parts.check_data_folder,
    diagnosis_parts.check_java,
    diagnosis_parts.check_kafka_jars,
    diagnosis_parts.check_engine,
    diagnosis_parts.check_model,
    diagnosis_parts.check_device,
    diagnosis.check_kafka_server,
    diagnosis.check_clickhouse_server,
)
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def examine(check: Callable[[], Finding]) -> Finding:
    """Run one check; one that fails itself is a finding too."""
    name = check.__name__.removeprefix("check_").replace("_", " ")
    try:
        return check()
    except SettingsError:  # the line about the settings says which
        return Finding(name, "warn", "not checked: its settings are wrong", "see the line about the settings")
    except Exception as error:
        return Finding(name, "fail", f"{type(error).__name__}: {error}", "the check itself failed: see above")


def examine_all(checks: Iterable[Callable[[], Finding]]) -> Iterator[Finding]:
    """Yield every finding in the order of the checks, each as soon as it and those before it are done."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield from pool.map(examine, checks)


def exit_code_of(findings: Iterable[Finding]) -> int:
    """Return 0 without failures, 78 when one lies in the configuration, else 75: it may pass by itself."""
    codes = {finding.exit_code for finding in findings if finding.verdict == "fail"}
    return EXIT_CONFIGURATION if EXIT_CONFIGURATION in codes else max(codes, default=0)


def show(finding: Finding) -> None:
    """Print one finding as a line, and what to do as a second."""
    label = click.style(f"{finding.verdict:<4}", fg=COLOURS[finding.verdict], bold=finding.verdict != "ok")
    click.echo(f"{label}  {finding.name:<18} {finding.found}")
    if finding.remedy:
        click.echo(f"{'':<25}-> {finding.remedy}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def doctor(as_json: bool) -> None:
    """Check this machine, the installation, the settings and the servers they name.

    Exit code: 0 nothing fails, 75 something may pass by itself (a server that is down, a full disk),
    78 something must be corrected.

    \b
    Example:
      inferwatch doctor
      inferwatch doctor --json | python3 -m json.tool
    """
    findings = []
    for finding in examine_all(CHECKS):
        findings.append(finding)
        if not as_json:
            show(finding)
    code = exit_code_of(findings)
    if as_json:
        click.echo(json.dumps({"exit_code": code, "checks": [finding.as_json() for finding in findings]}))
    else:
        failed = sum(finding.verdict == "fail" for finding in findings)
        warned = sum(finding.verdict == "warn" for finding in findings)
        click.echo(f"doctor: {len(findings)} checks, {failed} failed, {warned} warnings")
    sys.exit(code)

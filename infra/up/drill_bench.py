"""`inferwatch bench drill`: quiet minutes, a latency drill, and when the alert opened and was resolved, in windows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from infra.durations import Duration
from infra.exit_codes import EXIT_TRY_AGAIN

COMMAND = (sys.executable, "-P", "-m", "infra.cli")
DRILL_MS = 60_000
LEARNING_SECONDS = 75.0
"""First windows of a new series: nothing can be judged yet, so they do not count as quiet."""
WAIT_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class Incident:
    """An alert as SQL users see it; times in epoch milliseconds of the log, None while it is open."""

    incident_id: str
    kind: str
    opened_ms: int
    resolved_ms: int | None


def measured(incidents: Sequence[Incident], drill_ms: tuple[int, int], window_ms: int) -> dict[str, Any]:
    """What a run shows: `drill_ms` is the drill's begin and end. Windows are counted to the end of the window that
    changed the alert. None where the alert did not open, or was not resolved."""
    begin, end = drill_ms
    before = [one for one in incidents if one.opened_ms <= begin]
    after = [one for one in incidents if one.opened_ms > begin and one.kind == "latency_shift"]
    first = min(after, key=lambda one: one.opened_ms, default=None)
    last = (
        None
        if not after or any(one.resolved_ms is None for one in after)
        else max(one.resolved_ms or 0 for one in after)
    )
    return {
        "alerts_in_quiet": len(before),
        "alerts_in_drill": len(after),
        "other_alerts_after": len(incidents) - len(before) - len(after),
        "opened_after_windows": None if first is None else round((first.opened_ms - begin) / window_ms, 2),
        "resolved_after_windows": None if last is None else round((last - end) / window_ms, 2),
    }


@click.command("drill")
@click.option("--quiet", type=Duration(0, 86_400), default="5m", show_default=True, help="Quiet time before the drill.")
@click.option(
    "--rate", type=click.FloatRange(1, 100_000), default=250.0, show_default=True, help="Requests per second."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def drill(quiet: float, rate: float, as_json: bool) -> None:
    """Run everything, be quiet, slow the worker down for a minute, and see what the alert does.

    Default settings, windows included. Takes the quiet time and about five minutes.

    \b
    Example:
      inferwatch bench drill --quiet 5m --json
    """
    with tempfile.TemporaryDirectory(prefix="inferwatch-bench-") as scratch:
        run = _Run(Path(scratch), rate)
        try:
            result = _observe(run, quiet) | {"requests_per_second": rate}
        finally:
            run.stop()
    if as_json:
        click.echo(json.dumps(result))
    else:
        click.echo("\n".join(f"{name}: {value}" for name, value in result.items()))


def _observe(run: _Run, quiet: float) -> dict[str, Any]:
    run.until("a scored window", lambda: run.sql("SELECT 1 AS x FROM window_scores LIMIT 1"))
    click.echo(f"learning for {LEARNING_SECONDS:.0f} s, then quiet for {quiet:.0f} s", err=True)
    time.sleep(LEARNING_SECONDS + quiet)
    asked = json.loads(run.output("drill", "latency", "--duration", "60s", "--json"))
    begin = run.drill_began_ms(asked["drill_id"])
    click.echo("the drill runs for 60 s", err=True)
    time.sleep(DRILL_MS / 1000)
    try:
        run.until("an alert that opened and was resolved", lambda: _settled(run.incidents(), begin))
    except click.ClickException as error:
        click.echo(error.format_message(), err=True)
    windows = run.sql(
        "SELECT max(window_end_ms - window_start_ms) AS ms FROM (SELECT toUnixTimestamp64Milli(window_end)"
        " AS window_end_ms, toUnixTimestamp64Milli(window_start) AS window_start_ms FROM windows)"
    )
    window_ms = int(windows[0]["ms"])
    levels = run.sql("SELECT round(quantile(0.5)(total_ms_p95)) AS p95 FROM windows WHERE scenario = 'search'")
    return measured(run.incidents(), (begin, begin + DRILL_MS), window_ms) | {
        "window_seconds": window_ms / 1000,
        "quiet_seconds": quiet,
        "median_window_p95_ms": levels[0]["p95"],
    }


def _settled(incidents: Sequence[Incident], begin: int) -> bool:
    ours = [one for one in incidents if one.opened_ms > begin]
    return bool(ours) and all(one.resolved_ms is not None for one in ours)


class _Run:
    """An `inferwatch up` of the benchmark's own, embedded servers only."""

    def __init__(self, folder: Path, rate: float) -> None:
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("INFERWATCH_")}
        self._environment |= {"INFERWATCH_DATA_DIR": str(folder / "stack")}
        self._up = subprocess.Popen(
            [*COMMAND, "up", "--rate", str(rate)],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        """Stop in order."""
        self._up.terminate()
        try:
            self._up.wait(60)
        except subprocess.TimeoutExpired:
            self._up.kill()
            self._up.wait(10)

    def output(self, *arguments: str) -> str:
        """Run a command against it; raises ClickException when it fails."""
        done = subprocess.run(
            [*COMMAND, *arguments], env=self._environment, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise _failed(f"{' '.join(arguments)}: exit {done.returncode}: {done.stderr[-500:]}")
        return done.stdout

    def sql(self, statement: str) -> list[Mapping[str, Any]]:
        """Rows of a question; none while nothing answers."""
        try:
            return [json.loads(line) for line in self.output("query", statement, "--format", "json").splitlines()]
        except click.ClickException:
            return []

    def until(self, what: str, condition: Any) -> None:
        """Wait for a condition; raises ClickException when it does not come in time."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            if time.monotonic() > deadline or self._up.poll() is not None:
                raise _failed(f"did not come: {what}")
            time.sleep(2.0)

    def incidents(self) -> list[Incident]:
        """All alerts so far."""
        rows = self.sql(
            "SELECT incident_id, kind,"
            " toUnixTimestamp64Milli(opened_at) AS opened_ms, toUnixTimestamp64Milli(resolved_at) AS resolved_ms"
            " FROM alerts"
        )
        return [
            Incident(
                row["incident_id"],
                row["kind"],
                int(row["opened_ms"]),
                None if row["resolved_ms"] is None else int(row["resolved_ms"]),
            )
            for row in rows
        ]

    def drill_began_ms(self, drill_id: str) -> int:
        """The append time of the drill's record: what its duration counts from."""
        from infra.kafka import KafkaTail
        from infra.settings import KafkaSettings
        from schemas.topics import DRILLS

        address = json.loads(Path(self._environment["INFERWATCH_DATA_DIR"], "stack.json").read_text())
        kafka = KafkaSettings(bootstrap_servers=address["kafka_bootstrap_servers"])
        tail = KafkaTail(kafka, [DRILLS.name], start="beginning")
        try:
            deadline = time.monotonic() + 15.0
            while time.monotonic() < deadline:
                for record in tail.poll(100, 0.5):
                    if record.key == drill_id.encode():
                        return record.timestamp_ms
        finally:
            tail.close()
        raise _failed("the drill's record was not found")


def _failed(text: str) -> click.ClickException:
    error = click.ClickException(text)
    error.exit_code = EXIT_TRY_AGAIN
    return error

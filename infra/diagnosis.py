"""What `inferwatch doctor` says about the machine, the settings and the servers: one function per line.

Owns the checks and their words; `infra.doctor` runs and prints them. What was installed is
looked at in `infra.diagnosis_parts`.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from infra.addresses import clickhouse_address, is_loopback
from infra.exit_codes import EXIT_CONFIGURATION, EXIT_TRY_AGAIN
from infra.machine import GB, platform_problem, python_suits

Verdict = Literal["ok", "warn", "fail"]
ROOT = Path(__file__).resolve().parent.parent
# Estimates for the whole embedded stack: Java is held to 0.5 GB, each process with torch takes about 0.5 to 1 GB.
MEMORY_WISHED_BYTES = 4 * GB
MEMORY_NEEDED_BYTES = 2 * GB
DISK_WISHED_BYTES = 5 * GB
DISK_NEEDED_BYTES = 1 * GB
OPEN_FILES_WISHED = 1024  # Kafka keeps several files open per partition
CONNECT_TIMEOUT_SECONDS = 3.0
PROBE_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class Finding:
    """One line of the answer.

    `remedy` is what to do, empty when all is well; `exit_code` is what a failure makes the command end with.
    """

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""
    exit_code: int = EXIT_CONFIGURATION

    def as_json(self) -> dict[str, str]:
        """Return the finding for a program: name, verdict, found, remedy."""
        return {key: value for key, value in asdict(self).items() if key != "exit_code"}


def check_platform() -> Finding:
    """Linux on x86-64 with a recent glibc, or macOS on Apple silicon."""
    system, machine, libc = platform.system(), platform.machine(), platform.libc_ver()
    problem = platform_problem(system, machine, libc, platform.mac_ver()[0])
    found = f"{system} {machine} {' '.join(libc)}".strip()
    if problem:
        return Finding("platform", "fail", f"{found}: {problem}", "use a supported machine: docs/install.md")
    return Finding("platform", "ok", found)


def check_python() -> Finding:
    """Python 3.11 to 3.14."""
    found = f"{platform.python_version()} at {sys.executable}"
    if python_suits(sys.version_info[:2]):
        return Finding("python", "ok", found)
    return Finding("python", "fail", found, "use Python 3.11 to 3.14: remove .venv and run make setup")


def check_packages() -> Finding:
    """Installed packages are those of the lock: asked of uv, offline."""
    lock = ROOT / "requirements.lock"
    uv = Path(sys.executable).with_name("uv")
    if not lock.exists() or not uv.exists():
        return Finding("packages", "warn", "no lock or no uv beside this Python: not compared", "")
    command = [str(uv), "pip", "install", "--dry-run", "--offline", "--no-deps", "--python", sys.executable]
    asked = subprocess.run(
        [*command, "-r", str(lock)],
        capture_output=True,
        text=True,
        timeout=PROBE_TIMEOUT_SECONDS,
        check=False,
    )
    if asked.returncode == 0 and "no changes" in asked.stderr:
        return Finding("packages", "ok", "as locked")
    changes = [line.strip() for line in asked.stderr.splitlines() if line.startswith((" +", " -"))]
    found = "differ from the lock: " + (", ".join(changes[:4]) or asked.stderr.strip()[-200:])
    return Finding("packages", "fail", found, "remove .venv/inferwatch-setup.json and run make setup")


def memory_finding(available_bytes: int) -> Finding:
    """Judge the memory that is free for the embedded stack, in bytes."""
    found = f"{available_bytes / GB:.1f} GB available"
    if available_bytes < MEMORY_NEEDED_BYTES:
        return Finding("memory", "fail", found, "free at least 2 GB, better 4", EXIT_TRY_AGAIN)
    if available_bytes < MEMORY_WISHED_BYTES:
        return Finding("memory", "warn", found, "below 4 GB the machine may swap: close what is not needed")
    return Finding("memory", "ok", found)


def check_memory() -> Finding:
    """Free memory, or what the control group leaves when that is less."""
    import psutil

    available = psutil.virtual_memory().available
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        available = min(available, limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):  # no control group, or one without a limit ("max")
        pass
    return memory_finding(available)


def check_cores() -> Finding:
    """Processors this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        return Finding("cores", "warn", f"{cores}", "with one core expect low throughput; 2 or more are meant")
    return Finding("cores", "ok", f"{cores}")


def check_open_files() -> Finding:
    """The limit on open files."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES_WISHED:
        return Finding("open files", "warn", f"limit {soft} (hard {hard})", "ulimit -n 4096 in this shell")
    return Finding("open files", "ok", f"limit {soft}")


def check_loopback() -> Finding:
    """A connection to a free port of 127.0.0.1."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=CONNECT_TIMEOUT_SECONDS).close()
            return Finding("loopback", "ok", "127.0.0.1 answers")
    except OSError as error:
        found = f"127.0.0.1: {error}"
    return Finding("loopback", "fail", found, "a firewall or sandbox forbids local connections: allow them")


def check_settings() -> Finding:
    """Every INFERWATCH_* setting, shared or of worker, jobs and producers; and names that nothing reads."""
    from infra import settings, settings_check

    classes = settings_check.all_settings()
    try:
        settings_check.check_settings(classes)
    except settings.SettingsError as error:
        found = " | ".join(str(error).splitlines())
        return Finding("settings", "fail", found, "correct or unset them: docs/settings.md")
    unknown = settings_check.unknown_variables(classes, os.environ)
    if unknown:
        return Finding("settings", "warn", " | ".join(unknown), "correct or unset them: docs/settings.md")
    count = sum(name.startswith(settings.PREFIX) for name in os.environ)
    return Finding("settings", "ok", f"{count} set in the environment" if count else "all defaults")


def check_disk() -> Finding:
    """Free space where the data folder is or will be, and whether it can be written."""
    from infra.settings import StackSettings, load

    folder = load(StackSettings).data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / GB:.1f} GB free in {folder}"
    if not os.access(folder, os.W_OK):
        return Finding("disk", "fail", f"{folder} cannot be written", "set INFERWATCH_DATA_DIR to another folder")
    if free < DISK_NEEDED_BYTES:
        return Finding("disk", "fail", found, "free at least 1 GB, better 5", EXIT_TRY_AGAIN)
    if free < DISK_WISHED_BYTES:
        return Finding("disk", "warn", found, "below 5 GB a long run may fill the disk")
    return Finding("disk", "ok", found)


def check_kafka_server() -> Finding:
    """A Kafka cluster, when one is configured: one of its servers accepts a connection, and a question is answered."""
    from infra.kafka import KafkaCluster
    from infra.ports import TryAgain
    from infra.settings import KafkaSettings, load

    settings = load(KafkaSettings)
    servers = settings.bootstrap_servers
    if servers is None:
        return Finding("kafka server", "ok", "none configured: `inferwatch up` starts the embedded broker")
    problems = []
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_SECONDS).close()
        except (OSError, ValueError) as error:
            problems.append(f"{server.strip()}: {error}")
            continue
        try:
            KafkaCluster(settings).wait_ready(CONNECT_TIMEOUT_SECONDS)
        except TryAgain as error:  # the system accepts connections for a process that stands still, too
            found = f"{server.strip()} accepts connections, and then: {error}"
            remedy = "it may be starting or stand still: its log tells; else see the INFERWATCH_KAFKA_ settings for TLS"
            return Finding("kafka server", "fail", found, remedy, EXIT_TRY_AGAIN)
        return Finding("kafka server", "ok", f"{server.strip()} answers")
    remedy = "start it, or correct or unset INFERWATCH_KAFKA_BOOTSTRAP_SERVERS"
    return Finding("kafka server", "fail", "; ".join(problems), remedy, EXIT_TRY_AGAIN)


def check_clickhouse_server() -> Finding:
    """A ClickHouse server, when one is configured: it answers /ping, reached as the other commands reach it."""
    from infra.settings import ClickHouseSettings, load

    settings = load(ClickHouseSettings)
    url = settings.url
    if url is None:
        return Finding("clickhouse server", "ok", "none configured: `inferwatch up` starts the embedded engine")
    scheme, host, port = clickhouse_address(url)
    ping = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/ping"
    remedy, code = "start it, or correct or unset INFERWATCH_CLICKHOUSE_URL", EXIT_TRY_AGAIN
    try:
        with _opener(host, settings.ca_location).open(ping, timeout=CONNECT_TIMEOUT_SECONDS):
            return Finding("clickhouse server", "ok", f"{url} answers")
    except (OSError, ValueError) as error:
        if isinstance(getattr(error, "reason", error), ssl.SSLError):
            authority = "INFERWATCH_CLICKHOUSE_CA_LOCATION names the authority that signed its certificate"
            remedy, code = f"see that it speaks TLS on this port, and that {authority}", EXIT_CONFIGURATION
        return Finding("clickhouse server", "fail", f"{url}: {error}", remedy, code)


def _opener(host: str, ca_location: Path | None) -> urllib.request.OpenerDirector:
    """What asks a server over HTTP: with the authority of the settings, and through a proxy only to other machines."""
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_location))
    ]
    if is_loopback(host):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)

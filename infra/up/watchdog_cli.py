"""`inferwatch watchdog`: runs one command as a supervised child, starts it again when its group makes no progress."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from infra.exit_codes import EXIT_INTERNAL
from infra.up.lag_alert import LagPolicy
from infra.up.watchdog import WatchdogPolicy

if TYPE_CHECKING:
    from infra.ports import Clock
    from infra.up.children import Child
    from infra.up.guard import Guard, Target

LOG = logging.getLogger(__name__)
LOOK_EVERY_SECONDS = 0.1
NAME = "child"
PORT_VARIABLES = ("INFERWATCH_JOBS_METRICS_PORT", "INFERWATCH_WORKER_METRICS_PORT")
"""Where our own commands take the port of their health from."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--group", help="Consumer group of the command. Default: that of the jobs (INFERWATCH_JOBS_GROUP).")
@click.option(
    "--health-port", type=click.IntRange(1, 65_535), help="Port of the command's health. Default: one chosen for it."
)
@click.option("--look-seconds", type=click.FloatRange(0.1, 600), default=10.0, show_default=True, help="Between looks.")
@click.option(
    "--looks",
    type=click.IntRange(2, 10_000),
    default=WatchdogPolicy().stalled_looks,
    show_default=True,
    help="Looks in a row without progress that end the command.",
)
@click.option(
    "--lag-seconds",
    type=click.FloatRange(1, 1e6),
    default=LagPolicy().lag_seconds,
    show_default=True,
    help="An alert opens when the oldest record not committed is older.",
)
@click.option(
    "--stop-seconds",
    type=click.FloatRange(0.1, 600),
    default=30.0,
    show_default=True,
    help="From asking the command to stop to killing it.",
)
@click.option("--metrics-port", type=click.IntRange(0, 65_535), default=0, help="The watchdog's own; 0: none.")
@click.option("--json", "as_json", is_flag=True, help="At the end print one JSON object: restarts and how it ended.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def watchdog(
    group: str | None,
    health_port: int | None,
    look_seconds: float,
    looks: int,
    lag_seconds: float,
    stop_seconds: float,
    metrics_port: int,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND, a member of a consumer group, and start it again when it makes no progress.

    Progress is what Kafka says of the group: committed offsets against the topics' ends. COMMAND is ended (SIGTERM,
    then SIGKILL) and started again, with growing waits, when it is behind, or out of the group, and nothing was
    committed in so many looks; when its health port falls silent; or when that says itself that it does not live. Not
    while Kafka does not answer, nor while COMMAND waits for ClickHouse: then it only lags, and an alert says so.

    \b
    Examples:
      inferwatch watchdog -- inferwatch jobs score
      inferwatch watchdog --metrics-port 9102 --group inference-workers -- inferwatch worker

    \b
    Exit codes: COMMAND's own when it ended for good (0 after SIGTERM to the watchdog); 70 the watchdog itself failed.
    """
    program = shutil.which(command[0])
    if program is None:
        raise click.UsageError(f"{command[0]}: there is no such program")
    from infra.clock import SystemClock
    from infra.logs import setup_logging
    from infra.up.child_log import PassedOnLog
    from infra.up.children import Child, ChildSpec
    from infra.up.plan import Groups
    from infra.up.supervision import ChildState

    setup_logging("watchdog")
    clock = SystemClock()
    port, environment = _port_of(health_port, os.environ)
    spec = ChildSpec(NAME, (program, *command[1:]), environment, stop_seconds=stop_seconds)
    child = Child(spec, PassedOnLog(sys.stderr.buffer), clock, LOG.warning)
    guard = _guard(
        child, group or Groups.of(os.environ).jobs, f"http://127.0.0.1:{port}", clock, look_seconds, looks, lag_seconds
    )
    _serve(guard, clock, metrics_port, look_seconds)
    code = _run(child, guard)
    if as_json:
        failed = child.state is ChildState.FAILED
        click.echo(json.dumps({"restarts": child.history.restarts, "exit_status": child.exit_status, "failed": failed}))
    sys.exit(code)


def _port_of(asked: int | None, environment: Mapping[str, str]) -> tuple[int, dict[str, str]]:
    """The port of the command's health, and what it must be told of it."""
    set_already = next((environment[name] for name in PORT_VARIABLES if environment.get(name, "0") != "0"), None)
    if asked is None and set_already is not None and set_already.isdigit():
        return int(set_already), {}
    if asked is None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            asked = probe.getsockname()[1]
    return asked, dict.fromkeys(PORT_VARIABLES, str(asked))


def _guard(
    child: Child, group: str, url: str, clock: Clock, look_seconds: float, looks: int, lag_seconds: float
) -> Guard:
    from infra.connect import connection
    from infra.up.guard import Target, guard_of

    kafka, clickhouse = connection()

    def targets() -> list[Target]:
        pid = child.pid
        return [] if pid is None else [Target(NAME, pid, url)]

    usual = WatchdogPolicy()
    policy = WatchdogPolicy(looks, min(looks, usual.silent_looks), min(looks, usual.dead_looks))
    return guard_of(
        kafka, clickhouse, group, targets, clock, policy=policy, lag=LagPolicy(lag_seconds), look_seconds=look_seconds
    )


def _serve(guard: Guard, clock: Clock, metrics_port: int, look_seconds: float) -> None:
    """The watchdog's own health and metrics: it lives while it looks."""
    from infra.health import Code, Verdict
    from infra.health_server import HealthServer
    from infra.meters import Exposition
    from infra.metrics import CATALOGUE, EVERY, WATCHDOG
    from infra.settings import HealthSettings, load

    settings = load(HealthSettings)

    class Looking:
        """See `health.Probed`."""

        def live(self, now: float) -> Verdict:
            """A look takes some waits for Kafka at most."""
            silent = now - guard.looked_at
            if silent > look_seconds + settings.turn_seconds:
                return Verdict(False, Code.LOOP_STUCK, f"it has not looked for {silent:.0f} s")
            return Verdict(True, Code.OK, f"it looked {silent:.0f} s ago")

        def ready(self, now: float) -> Verdict:
            """The same."""
            return self.live(now)

    if metrics_port:
        shown = Exposition(CATALOGUE, {EVERY, WATCHDOG})
        HealthServer(settings.address, metrics_port, Looking(), shown, clock, process="watchdog")


def _run(child: Child, guard: Guard) -> int:
    """Until the child has ended for good, or this process is told to stop; the exit code."""
    from infra.up.supervision import ChildState

    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: signals.append(number))
    child.start()
    guard.start()
    while not signals and child.state is not ChildState.FAILED:
        time.sleep(LOOK_EVERY_SECONDS)
        child.look()
        for due in guard.due():
            if due.target.pid == child.pid:
                child.replace(due.why)
    guard.stop()
    if child.state is ChildState.FAILED:
        return child.exit_status if child.exit_status is not None and child.exit_status > 0 else EXIT_INTERNAL
    if child.pid is None:
        return 0  # it waited to be started again: nobody needs to stop
    child.ask_to_stop()
    deadline = time.monotonic() + child.spec.stop_seconds
    while not child.has_stopped():
        time.sleep(LOOK_EVERY_SECONDS)
        if time.monotonic() > deadline or len(signals) > 1:
            child.kill()
    status = child.exit_status
    return EXIT_INTERNAL if status is None or status < 0 else status

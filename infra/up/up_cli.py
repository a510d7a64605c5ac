"""`inferwatch up`, `down` and `reset`."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

import click

from infra.durations import Duration
from infra.exit_codes import EXIT_CONFIGURATION, EXIT_INTERRUPTED, EXIT_TRY_AGAIN

if TYPE_CHECKING:
    from infra.embedded.data_folder import Claim
    from infra.up.folder import StackFolder
    from infra.up.plan import UpOptions
    from infra.up.run import RunLimit, Up

DOWN_SECONDS = 120.0
"""Longest wait for a run to stop: longer than the deadlines of all its processes together."""


@click.command()
@click.option("--for", "seconds", type=Duration(least_seconds=1.0), help="Traffic for so long, then a summary.")
@click.option("--rate", type=click.FloatRange(0.1, 1e6), default=250.0, show_default=True, help="Requests per second.")
@click.option("--no-traffic", is_flag=True, help="Start no simulator.")
@click.option("--workers", type=click.IntRange(0, 64), default=1, show_default=True, help="Inference workers.")
@click.option("--jobs", type=click.IntRange(0, 64), default=1, show_default=True, help="Score job processes.")
@click.option(
    "--broken-share",
    type=click.FloatRange(0.0, 1.0),
    default=0.01,
    show_default=True,
    help="Share of the traffic that is broken on purpose, so that dead letters are seen too.",
)
@click.option("--mixed", is_flag=True, help="With only one of the two servers named: embed the other.")
@click.option("--seed", type=int, help="Seed of the traffic.")
@click.option(
    "--drain",
    "drain_seconds",
    type=Duration(),
    default="90s",
    show_default=True,
    help="With --for: longest wait for what is under way when the traffic ends.",
)
@click.option("--until-answered", is_flag=True, hidden=True, help="End at the first prediction: for `bench startup`.")
@click.option("--json", "as_json", is_flag=True, help="With --for: print the summary as one JSON object on stdout.")
def up(
    seconds: float | None,
    rate: float,
    no_traffic: bool,
    workers: int,
    jobs: int,
    broken_share: float,
    mixed: bool,
    seed: int | None,
    drain_seconds: float,
    until_answered: bool,
    as_json: bool,
) -> None:
    """Start everything on this machine, with live traffic, and show it until Ctrl-C.

    Kafka and ClickHouse are started too, unless INFERWATCH_KAFKA_BOOTSTRAP_SERVERS and INFERWATCH_CLICKHOUSE_URL
    say where they run: the live traffic then goes there, and --no-traffic stops it. With only one of the two set it is
    refused unless --mixed says that it is meant. Data and logs are in INFERWATCH_DATA_DIR (.inferwatch). With --for the
    exit code is 0 when the books balance, 70 when something is lost or doubled, 75 when work was left or none was sent.

    \b
    Example:
      inferwatch up
      inferwatch up --for 60s --rate 100 --json
    """
    from infra.up.plan import UpOptions
    from infra.up.run import RunLimit, UpFailed

    began = _process_began()
    notes = _check_settings(mixed)
    options = UpOptions(rate, not no_traffic, workers, jobs, broken_share, seed)
    folder, claim = _claim()
    try:
        with claim:
            run = _assemble(options, RunLimit(seconds, drain_seconds, until_answered), folder, claim, began)
            for note in notes:
                run.say(f"note: {note}")
            summary = run.run()
    except UpFailed as error:
        click.echo(f"inferwatch up: {error}", err=True)
        sys.exit(error.exit_code)
    finally:
        folder.remove_stack()
    if summary is None:
        click.echo(f"inferwatch up: {run.last_words()}", err=True)
        sys.exit(0 if seconds is None else EXIT_INTERRUPTED)
    click.echo(json.dumps(summary.as_json()) if as_json else summary.as_text())
    sys.exit(summary.exit_code)


def _process_began() -> float:
    """When this process was started, monotonic seconds: imports count as well."""
    import psutil

    age = time.time() - float(psutil.Process().create_time())
    return time.monotonic() - max(0.0, age)


def _check_settings(mixed: bool) -> list[str]:
    """Refuse wrong settings of any part before anything starts: SettingsError. Returns notes on unknown names."""
    from infra.settings import ClickHouseSettings, KafkaSettings, load
    from infra.settings_check import all_settings, check_settings, unknown_variables
    from infra.up.server_choice import check_choice

    classes = all_settings()
    check_settings(classes)
    check_choice(load(KafkaSettings), load(ClickHouseSettings), mixed)
    notes = unknown_variables(classes, os.environ)
    for note in notes:  # on stderr as well: a live picture hides what is only among its events once they have passed
        click.echo(f"inferwatch up: {note}", err=True)
    return notes


def _claim() -> tuple[StackFolder, Claim]:
    from infra.settings import StackSettings, load
    from infra.up.folder import FolderBusy, FolderError, StackFolder

    folder = StackFolder(load(StackSettings).data_dir)
    try:
        return folder, folder.claim()
    except FolderBusy as error:
        click.echo(f"inferwatch up: {error}\n`inferwatch down` stops it.", err=True)
        sys.exit(EXIT_TRY_AGAIN)
    except FolderError as error:
        click.echo(f"inferwatch up: {error}", err=True)
        sys.exit(EXIT_CONFIGURATION)


def _assemble(options: UpOptions, limit: RunLimit, folder: StackFolder, claim: Claim, began: float) -> Up:
    from infra.clock import SystemClock
    from infra.settings import ClickHouseSettings, KafkaSettings, StackSettings, load
    from infra.up.child_log import ChildLog
    from infra.up.plan import Groups, plan, served_names
    from infra.up.run import Site, Up
    from infra.up.server_choice import choose_addresses, choose_health_ports
    from infra.up.servers import RealServers
    from infra.up.where_to_look import where_to_look

    stack, kafka, clickhouse = load(StackSettings), load(KafkaSettings), load(ClickHouseSettings)
    addresses = choose_addresses(kafka, clickhouse, stack, claim)
    kafka = kafka.model_copy(update={"bootstrap_servers": addresses.kafka_bootstrap_servers})
    clickhouse = clickhouse.model_copy(update={"url": addresses.clickhouse_url})
    workers, jobs = served_names(options)
    if os.environ.get("INFERWATCH_WORKER_METRICS_PORT"):  # whoever chose one keeps it
        workers = []
    ports = choose_health_ports([*workers, *jobs], claim)
    places = where_to_look(addresses, options, folder.logs, ports)
    guarded = {name: ports[name] for name in jobs}
    site = Site(addresses, folder, Groups.of(os.environ), places, guarded)
    log = ChildLog(folder.logs / "up.log")
    log.take_logging()  # client libraries write there and not over the picture
    clock = SystemClock()
    folder.write_stack(addresses.kafka_bootstrap_servers, addresses.clickhouse_url)
    servers = RealServers(kafka, clickhouse, stack, site.groups, clock, began, log)
    specs = plan(options, addresses, folder.path, site.groups, ports)
    return Up(specs, limit, site, servers, log, clock, began)


@click.command()
def down() -> None:
    """Stop the `inferwatch up` of this folder (INFERWATCH_DATA_DIR) and wait until it has stopped.

    \b
    Example:
      inferwatch down
    """
    import psutil

    from infra.settings import StackSettings, load
    from infra.up.folder import StackFolder

    folder = StackFolder(load(StackSettings).data_dir)
    stack = folder.read_stack()
    process = None if stack is None else stack.process
    if process is None:
        folder.remove_stale_stack()
        click.echo(f"inferwatch down: nothing is running on {folder.path}")
        return
    click.echo(f"inferwatch down: stopping process {process.pid}", err=True)
    try:
        process.terminate()
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied:
        click.echo(f"inferwatch down: process {process.pid} belongs to another user: stop it as that user", err=True)
        sys.exit(EXIT_TRY_AGAIN)
    deadline = time.monotonic() + DOWN_SECONDS
    # Not process.wait(): one whose own parent does not fetch its status has ended, too.
    while stack is not None and stack.process is not None:
        if time.monotonic() > deadline:
            click.echo(
                f"inferwatch down: process {process.pid} still runs after {DOWN_SECONDS:.0f} s. Ways out: wait and try "
                "again; or kill it: its children end with it, and no data is lost.",
                err=True,
            )
            sys.exit(EXIT_TRY_AGAIN)
        time.sleep(0.1)
    click.echo("inferwatch down: stopped")


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(yes: bool) -> None:
    """Delete the local data folder (INFERWATCH_DATA_DIR): topics, tables, logs. Refused while something runs on it.

    \b
    Example:
      inferwatch down && inferwatch reset --yes
    """
    from infra.settings import StackSettings, load
    from infra.up.folder import FolderBusy, FolderError, StackFolder

    folder = StackFolder(load(StackSettings).data_dir)
    if not folder.path.exists():
        click.echo(f"inferwatch reset: there is no {folder.path}: nothing to delete")
        return
    try:
        folder.check_deletable()
        if not yes:
            click.confirm(f"Delete {folder.path} with all its data?", abort=True)
        folder.delete()
    except FolderBusy as error:
        click.echo(f"inferwatch reset: {error}", err=True)
        sys.exit(EXIT_TRY_AGAIN)
    except FolderError as error:
        click.echo(f"inferwatch reset: {error}", err=True)
        sys.exit(EXIT_CONFIGURATION)
    click.echo(f"inferwatch reset: deleted {folder.path}")

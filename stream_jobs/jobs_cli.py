"""`inferwatch jobs`: runs the stream jobs. Wires real Kafka and ClickHouse to the job; owns exit codes and watchdog."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from infra.cli import EXIT_CONFIGURATION, EXIT_INTERNAL, EXIT_TRY_AGAIN
from stream_jobs import stall_watch
from stream_jobs.ledger_cli import ledger, start_ledger

if TYPE_CHECKING:
    from infra.kafka import KafkaCluster
    from infra.settings import ClickHouseSettings, KafkaSettings
    from stream_jobs.score_job import ScoreJob
    from stream_jobs.settings import JobSettings

LOG = logging.getLogger(__name__)
START_SECONDS = 60.0
"""How long to wait for Kafka and ClickHouse at start."""
STUCK_LOOKS = 60
"""Seconds-long looks at the event loop without a beat before the process is ended. Looks and not seconds: a process
that was stopped and continued has looked no more often than its loop ran."""


@click.group()
def jobs() -> None:
    """Run stream jobs: they score telemetry, store rows, and say what is wrong."""


jobs.add_command(ledger)


@jobs.command()
@click.option("--ledger/--no-ledger", "with_ledger", default=False, help="Keep the books too: see `jobs ledger`.")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65_535),
    help="Port of health and Prometheus metrics; 0: none. Default: INFERWATCH_JOBS_METRICS_PORT.",
)
def score(with_ledger: bool, metrics_port: int | None) -> None:
    """Score telemetry as it comes: rows and windows to ClickHouse, anomalies and alerts to Kafka.

    Start as many as you like, in one group (INFERWATCH_JOBS_GROUP): they share the partitions. SIGTERM commits what is
    done and stops. Kafka and ClickHouse are those that the environment names, else those of the stack that runs here.

    \b
    Example:
      INFERWATCH_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9092 INFERWATCH_CLICKHOUSE_URL=http://127.0.0.1:8123 \\
        inferwatch jobs score
    """
    from infra.connect import connection
    from infra.settings import load
    from stream_jobs.settings import JobSettings

    settings = load(JobSettings)
    kafka, clickhouse = connection()
    port = settings.metrics_port if metrics_port is None else metrics_port
    sys.exit(run_score(settings, kafka, clickhouse, port, with_ledger))


def run_score(
    settings: JobSettings, kafka: KafkaSettings, clickhouse: ClickHouseSettings, metrics_port: int, with_ledger: bool
) -> int:
    """Run the score job until it is stopped; the exit code. Raises TryAgain when Kafka or ClickHouse is away."""
    from infra.clickhouse import ClickHouse
    from infra.clock import SystemClock
    from infra.health import Readiness, Together
    from infra.health_server import HealthServer
    from infra.kafka import KafkaCluster, KafkaPublisher
    from infra.logs import setup_logging
    from infra.meters import Exposition
    from infra.metrics import CATALOGUE, EVERY, JOBS, RECORDS_MISSING
    from infra.settings import HealthSettings, load
    from schemas.topics import REQUESTS
    from stream_jobs.job_health import JobHealth
    from stream_jobs.request_log import KafkaRequestLog
    from stream_jobs.score_job import ScoreJob
    from stream_jobs.score_specs import score_specs, ticker
    from stream_jobs.warming import warm_up

    stop_at_once_on_sigterm()
    setup_logging("jobs-score")
    # Compiling takes seconds the first time; the first record must not wait for it on the event loop.
    threading.Thread(target=warm_up, args=(settings,), name="compile", daemon=True).start()
    clock, client_id = SystemClock(), f"inferwatch-jobs-{socket.gethostname()}-{os.getpid()}"
    health = load(HealthSettings)
    readiness = Readiness(health.policy, clock.monotonic(), doing="waiting for Kafka and ClickHouse")
    told, parts = list[JobHealth](), {"job": readiness}
    if with_ledger:
        parts["ledger"] = Readiness(health.policy, clock.monotonic(), doing=readiness.doing)
    if metrics_port:
        shown = Exposition(CATALOGUE, {EVERY, JOBS})
        details = lambda: told[0].details() if told else {}  # noqa: E731
        HealthServer(health.address, metrics_port, Together(parts), shown, clock, process=client_id, details=details)
    cluster = KafkaCluster(kafka)
    cluster.wait_ready(START_SECONDS)
    check_topics(cluster, settings)
    writer = ClickHouse(clickhouse)
    writer.wait_ready(START_SECONDS)
    publisher = KafkaPublisher(kafka, client_id=client_id)
    requests = KafkaRequestLog(cluster, REQUESTS.name, clock)
    requests.follow()
    specs = score_specs(settings, kafka, cluster, publisher, clock, requests)
    telemetry_source = next(spec.source for spec in specs.values() if spec.ticks)
    job = ScoreJob(
        specs,
        writer,
        publisher,
        clock,
        end_process,
        barrier_interval_seconds=settings.barrier_interval_seconds,
        row_flush_seconds=settings.row_flush_seconds,
        tick_seconds=settings.tick_seconds,
        tick=ticker(publisher, telemetry_source, clock),
    )
    books = None
    if with_ledger:
        books = start_ledger(settings, kafka, publisher, clock, client_id, end_process, parts["ledger"])
    told.append(JobHealth(job, clock))
    told[0].follow()
    for topic in specs:  # what must stay 0 is shown as 0, too
        RECORDS_MISSING.labels(topic)
    readiness.loaded()

    def beat() -> None:
        """A job answers nobody: it is ready while its event loop runs. Its lag says whether it keeps up."""
        readiness.joined(clock.monotonic())

    beside: dict[str, stall_watch.Job] = {} if books is None else {"ledger": books.job}
    code = run_job(job, kafka, settings.group, client_id, list(specs), on_beat=beat, beside=beside)
    if books is not None:
        books.finish()
    publisher.close(5.0)
    writer.close()
    return code


def check_topics(cluster: KafkaCluster, settings: JobSettings) -> dict[str, int]:
    """Partitions of the topics that the job needs. Raises TryAgain when one is not there, and ClickException
    with exit code 78 when they do not fit each other."""
    from infra.ports import TryAgain
    from stream_jobs.topics_check import NEEDED, misfit, misfit_budget, missing

    counts = {topic.name: cluster.partitions(topic.name) for topic in NEEDED}
    if why := missing(counts):
        raise TryAgain(why)
    if why := misfit(counts) or misfit_budget(counts, settings.alerts_a_week):
        error = click.ClickException(why)
        error.exit_code = EXIT_CONFIGURATION
        raise error
    return counts


def run_job(
    job: ScoreJob,
    kafka: KafkaSettings,
    group: str,
    client_id: str,
    topics: list[str],
    *,
    on_beat: Callable[[], None] = lambda: None,
    beside: Mapping[str, stall_watch.Job] | None = None,
) -> int:
    """Run a job on Faust until it is stopped; the exit code. `on_beat` is called each second in which it ran. `beside`:
    what else must come on in this process, or it ends."""
    from infra.kafka import KafkaCluster
    from stream_jobs import app

    watched = (job, kafka.session_timeout_ms / 1000, on_beat)
    threading.Thread(target=_watch, args=watched, name="watchdog", daemon=True).start()
    stalls = ({"job": job, **(beside or {})}, KafkaCluster(kafka, client_id=f"{client_id}-watch"), topics, end_process)
    threading.Thread(target=stall_watch.watch, args=stalls, name="stalls", daemon=True).start()
    try:
        app.run(app.new_app(kafka, group=group, client_id=client_id, topics=topics, job=job))
    except SystemExit as stop:
        if stop.code not in (0, None):
            return EXIT_INTERNAL
    return 0 if job.committed_all else EXIT_TRY_AGAIN


def stop_at_once_on_sigterm() -> None:
    """Until the job runs, and stops in order by itself, SIGTERM just ends the process: with 0, nothing was done.

    Not by an exception: raised while a module is imported, it may be in a callback that swallows it and leaves the
    import's lock taken. The job then went on without having heard, and stood still at its next import.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))


def end_process(error: BaseException) -> None:
    """End the process now with exit code 70: nothing more is stored, published or committed."""
    LOG.critical("the job is broken and ends: %r", error, exc_info=error)
    logging.shutdown()
    os._exit(EXIT_INTERNAL)


def _watch(job: ScoreJob, session_seconds: float, on_beat: Callable[[], None]) -> None:
    """End a process whose event loop does not run any more: its partitions go to another. Tell one that was stopped
    past its session, and continued, that they have."""
    beats, looks = -1, 0
    while True:
        began = time.monotonic()
        time.sleep(1.0)
        if (slept := time.monotonic() - began) > 1.0 + session_seconds:
            job.stood_still(slept)
        looks = looks + 1 if job.beats == beats else 0
        beats = job.beats
        if beats and not looks:
            on_beat()
        if beats and looks >= STUCK_LOOKS:
            end_process(RuntimeError(f"the event loop did not run for {STUCK_LOOKS} looks"))

"""`inferwatch jobs ledger`: keeps the books. Wires the ledger to real Kafka, alone or beside another job."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import click

from infra.exit_codes import EXIT_CONFIGURATION

if TYPE_CHECKING:
    from infra.health import Readiness
    from infra.kafka import KafkaCluster
    from infra.ports import Clock, Publisher
    from infra.settings import KafkaSettings
    from stream_jobs.settings import JobSettings
    from stream_jobs.stall_watch import Progress

LOG = logging.getLogger(__name__)
START_SECONDS = 60.0
STOP_SECONDS = 20.0
"""Longest wait for the last save. What is not saved is counted again by the next owner."""


@click.command()
@click.option("--metrics-port", type=click.IntRange(0, 65_535), default=0, help="Port of Prometheus metrics; 0: none.")
def ledger(metrics_port: int) -> None:
    """Keep the books: what is asked, what became of it and what is owed, by partition and scenario, from Kafka alone.

    The score job judges from it whether workers stand still or fall behind, and `inferwatch books` shows it. Start as
    many as you like: they share the partitions. `inferwatch jobs score --ledger` keeps them in the score job's process.

    \b
    Example:
      INFERWATCH_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9092 inferwatch jobs ledger
    """
    from infra.connect import kafka_connection
    from infra.settings import load
    from stream_jobs.settings import JobSettings

    settings = load(JobSettings)
    kafka = kafka_connection()
    sys.exit(run_ledger(settings, kafka, metrics_port))


def run_ledger(settings: JobSettings, kafka: KafkaSettings, metrics_port: int) -> int:
    """Run the ledger until SIGTERM or SIGINT; the exit code. Raises TryAgain when Kafka is away."""
    from infra.clock import SystemClock
    from infra.health import Readiness
    from infra.health_server import HealthServer
    from infra.kafka import KafkaCluster, KafkaPublisher
    from infra.logs import setup_logging
    from infra.meters import Exposition
    from infra.metrics import CATALOGUE, EVERY, JOBS, UNCOMMITTED_OLDEST_SECONDS
    from infra.settings import HealthSettings, load
    from stream_jobs.jobs_cli import end_process

    setup_logging("jobs-ledger")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    clock, client_id = SystemClock(), f"inferwatch-ledger-{socket.gethostname()}-{os.getpid()}"
    health = load(HealthSettings)
    readiness = Readiness(health.policy, clock.monotonic(), doing="waiting for Kafka")
    if metrics_port:
        shown = Exposition(CATALOGUE, {EVERY, JOBS})
        HealthServer(health.address, metrics_port, readiness, shown, clock, process=client_id)
    if not KafkaCluster(kafka).wait_ready(START_SECONDS, stop):
        return 0
    publisher = KafkaPublisher(kafka, client_id=client_id)
    readiness.loaded()
    follow = UNCOMMITTED_OLDEST_SECONDS.follow
    running = start_ledger(settings, kafka, publisher, clock, client_id, end_process, readiness, show_age=follow)
    stop.wait()
    running.finish()
    publisher.close(5.0)
    return 0


def start_ledger(
    settings: JobSettings,
    kafka: KafkaSettings,
    publisher: Publisher,
    clock: Clock,
    client_id: str,
    on_fatal: Callable[[BaseException], None],
    readiness: Readiness,
    *,
    show_age: Callable[[Callable[[], float]], None] = lambda source: None,
) -> RunningLedger:
    """Keep the books in a thread of this process. From now on `readiness` is told by it, and says when it stands still.
    `show_age` is given what tells the age of the oldest record that is not saved, in seconds.

    Raises TryAgain when a topic is missing, and ClickException with exit code 78 when they do not fit.
    """
    from infra.kafka import KafkaCluster
    from stream_jobs.ledger.ledger_job import LedgerJob

    def turn() -> None:
        readiness.joined(clock.monotonic())

    check_topics(KafkaCluster(kafka))
    job = LedgerJob(settings, kafka, publisher, clock, client_id, on_turn=turn)
    show_age(job.unsaved.seconds)
    turn()  # the first one may never come
    return RunningLedger(job, on_fatal)


class Ledger(Protocol):
    """What keeps the books, see `LedgerJob`."""

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""

    def progress(self, ranges: Mapping[tuple[str, int], tuple[int, int]]) -> Progress | None:
        """See `stall_watch.Job`."""


class RunningLedger:
    """A ledger in a thread of its own. That thread must not end before it is told to: without it nobody looks."""

    def __init__(self, job: Ledger, on_fatal: Callable[[BaseException], None]) -> None:
        """Starts it. `on_fatal` is told, on the thread, why it ended by itself."""
        self.job, self._on_fatal = job, on_fatal
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="ledger", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        try:
            self.job.run(self._stop)
            if not self._stop.is_set():
                raise RuntimeError("the ledger's loop ended by itself")
        except BaseException as error:
            self._on_fatal(error)

    def finish(self) -> None:
        """Save the books and end the thread. Blocks for STOP_SECONDS at most."""
        self._stop.set()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            LOG.warning("the books were not saved within %.0f s: the next owner counts again", STOP_SECONDS)


def check_topics(cluster: KafkaCluster) -> None:
    """Whether the ledger's topics are there and fit. Raises as `start_ledger`."""
    from infra.ports import TryAgain
    from stream_jobs.topics_check import LEDGER_NEEDED, misfit_ledger, missing

    counts = {topic: cluster.partitions(topic) for topic in LEDGER_NEEDED}
    if why := missing(counts, LEDGER_NEEDED):
        raise TryAgain(why)
    if why := misfit_ledger(counts):
        error = click.ClickException(why)
        error.exit_code = EXIT_CONFIGURATION
        raise error

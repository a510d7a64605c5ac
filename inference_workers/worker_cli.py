"""`inferwatch worker`: one process that serves a model from Kafka until told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from inference_workers.registry import ModelFolder
    from inference_workers.servable import Servable
    from inference_workers.spec import WorkerSettings
    from infra.dead_letters import DeadLetters
    from infra.kafka import KafkaCluster
    from infra.ports import Clock
    from infra.settings import KafkaSettings

LOG = logging.getLogger(__name__)
EXIT_INTERNAL = 70
SWITCH_SECONDS = 0.0005
"""How long the loop's thread may hold the interpreter against the one that computes: by default 5 ms, which a forward
pass of 40 ms waits for several times."""
READY_SECONDS_MAX = 60.0
"""How long a worker waits for Kafka and the topics when it starts."""


@click.command("worker")
@click.option("--model", help="Installed package or local folder; INFERWATCH_WORKER_MODEL.")
@click.option("--drills/--no-drills", default=None, help="Follow control.drills; INFERWATCH_WORKER_DRILLS.")
def worker(model: str | None, drills: bool | None) -> None:
    """Serve a model: requests from Kafka in, predictions and telemetry out.

    Start as many as there are cores or GPUs; they share the partitions. SIGTERM or Ctrl-C stops in order. Settings are
    INFERWATCH_WORKER_* and INFERWATCH_KAFKA_* variables.

    \b
    Example:
      INFERWATCH_KAFKA_BOOTSTRAP_SERVERS=localhost:9092 inferwatch worker --drills
    """
    from inference_workers.spec import WorkerSettings
    from infra.connect import kafka_connection
    from infra.logs import setup_logging
    from infra.settings import load

    given: dict[str, Any] = {"model": model, "drills": drills}
    settings = load(WorkerSettings, **{name: value for name, value in given.items() if value is not None})
    setup_logging("worker")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    serve_guarded(lambda: serve(settings, kafka_connection(), stop))


def serve_guarded(serve_: Callable[[], None]) -> None:
    """Run, and end the process with 70 for what nobody foresaw; nothing unfinished is acknowledged then."""
    from infra.settings import SettingsError

    try:
        serve_()
    except (SettingsError, ConnectionError, click.ClickException):
        raise
    except Exception:
        LOG.critical("the worker ends: its requests stay unacknowledged and go to another one", exc_info=True)
        sys.stderr.flush()
        os._exit(EXIT_INTERNAL)  # a thread may hang in the device's driver: do not wait for it


def serve(settings: WorkerSettings, kafka: KafkaSettings, stop: threading.Event) -> None:
    """Load, join, serve until `stop`. The group is joined only with a model that works, so that no partition waits."""
    from infra.clock import SystemClock

    with ThreadPoolExecutor(3, thread_name_prefix="start") as pool:
        model = pool.submit(_find_model, settings)
        servable = pool.submit(_load, settings, model)
        pool.submit(lambda: model.result().digest)
        cluster = _connect(kafka)
        if stop.is_set():
            return
        own = servable.result()
    _run(settings, kafka, cluster, own, SystemClock(), stop)


def _find_model(settings: WorkerSettings) -> ModelFolder:
    from inference_workers.registry import find_model

    return find_model(settings.model)


def _load(settings: WorkerSettings, model: Future[ModelFolder]) -> Servable:
    from inference_workers.engines.loading import load_engine
    from inference_workers.servable import Servable
    from inference_workers.tokenise import Tokeniser
    from schemas.predictions import ModelRef

    folder = model.result()
    loaded = load_engine(settings, folder)
    return Servable(
        ModelRef(name=settings.model_name, version=settings.version, digest=folder.digest),
        Tokeniser(folder.path, tokens_max=folder.tokens_max, text_bytes_max=settings.text_bytes_max),
        loaded.engine,
        loaded.description,
        folder.tokens_max,
        loaded.labels,
        loaded.multi_label,
        loaded.images,
    )


def _connect(kafka: KafkaSettings) -> KafkaCluster:
    """Wait for Kafka and check that the topics fit each other. Raises ConnectionError or ClickException."""
    from infra.kafka import KafkaCluster
    from infra.ports import RetryLater
    from schemas.topics import PREDICTIONS, REQUESTS, TELEMETRY

    cluster = KafkaCluster(kafka)
    cluster.wait_ready(READY_SECONDS_MAX)
    deadline = time.monotonic() + READY_SECONDS_MAX
    while True:
        try:
            counts = {topic.name: cluster.partitions(topic.name) for topic in (REQUESTS, PREDICTIONS, TELEMETRY)}
        except RetryLater as away:
            raise ConnectionError(str(away)) from None
        missing = [name for name, count in counts.items() if count == 0]
        if not missing:
            break
        if time.monotonic() > deadline:
            raise ConnectionError(f"no topic {', '.join(missing)}: `inferwatch topics apply` makes it")
        time.sleep(0.1)  # `inferwatch up` makes them while the model is loaded
    if min(counts.values()) < counts[REQUESTS.name]:
        error = click.ClickException(
            f"partitions differ: {counts}. Answers and telemetry go to the request's partition number. Ways out: "
            f"`inferwatch topics apply` with INFERWATCH_TOPIC_PARTITIONS={counts[REQUESTS.name]}; or make them anew."
        )
        error.exit_code = 78
        raise error
    return cluster


def _run(
    settings: WorkerSettings,
    kafka: KafkaSettings,
    cluster: KafkaCluster,
    own: Servable,
    clock: Clock,
    stop: threading.Event,
) -> None:
    from inference_workers.compute import ComputeThread
    from inference_workers.routing import RoutingTable, own_route
    from inference_workers.serving import Outside, new_loop, new_work
    from infra import metrics
    from infra.dead_letters import DeadLetters
    from infra.kafka import KafkaLog, KafkaPublisher
    from schemas.topics import REQUESTS

    worker_id = settings.name_of_worker()
    publisher = KafkaPublisher(kafka, client_id=worker_id)
    dead_letters = DeadLetters(publisher, "worker")
    outside = Outside(clock, publisher, dead_letters, lambda topic: (cluster.cluster_id, cluster.topic_id(topic)))
    compute = ComputeThread(clock, delay=_delay(settings, kafka, clock, stop, dead_letters))
    work = new_work(settings, RoutingTable(own_route(own)), compute, outside)
    loop = new_loop(
        settings,
        lambda assigned, revoked: KafkaLog(
            kafka,
            group=settings.group,
            topics=[REQUESTS.name],
            client_id=worker_id,
            on_assigned=assigned,
            on_revoked=revoked,
        ),
        work,
        outside,
        stop,
    )
    if settings.metrics_port:
        metrics.serve(settings.metrics_port)
    LOG.info("serving %s %s on %s as %s", own.ref.name, own.ref.version, own.device, worker_id)
    sys.setswitchinterval(SWITCH_SECONDS)
    loop.run()
    compute.close()
    publisher.close()
    LOG.info("stopped in order")


def _delay(
    settings: WorkerSettings, kafka: KafkaSettings, clock: Clock, stop: threading.Event, dead_letters: DeadLetters
) -> Callable[[], None]:
    """What holds batches back: the drills, where they are allowed."""
    if not settings.drills:
        return lambda: None
    from inference_workers.drills import DrillWatch
    from infra.kafka import KafkaTail
    from schemas.topics import DRILLS

    return DrillWatch(
        lambda start_ms: KafkaTail(kafka, [DRILLS.name], start=start_ms), clock, stop, dead_letters.send
    ).hold_back

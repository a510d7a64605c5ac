"""`inferwatch worker`: one process that serves a model from Kafka until told to stop."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from inference_workers.compute import Compute
    from inference_workers.engine import TorchEngine
    from inference_workers.loop import InferenceWork
    from inference_workers.registry import ModelFolder
    from inference_workers.spec import WorkerSettings
    from infra.batch_loop import BatchLoop, Work
    from infra.dead_letters import DeadLetters
    from infra.kafka import KafkaCluster
    from infra.ports import Clock, Publisher
    from infra.settings import KafkaSettings
    from schemas.predictions import ModelRef

LOG = logging.getLogger(__name__)
EXIT_INTERNAL = 70
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
    with ThreadPoolExecutor(3, thread_name_prefix="start") as pool:
        model = pool.submit(_find_model, settings)
        engine = pool.submit(_load, settings, model)
        cluster = _connect(kafka)
        pool.submit(lambda: model.result().digest)
        if stop.is_set():
            return
        parts = engine.result(), model.result()
    _run(settings, kafka, cluster, *parts, stop)


def _find_model(settings: WorkerSettings) -> ModelFolder:
    from inference_workers.registry import find_model

    return find_model(settings.model)


def _load(settings: WorkerSettings, model: Future[ModelFolder]) -> TorchEngine:
    from inference_workers.engine import load_engine

    return load_engine(settings, model.result())


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
    engine: TorchEngine,
    folder: ModelFolder,
    stop: threading.Event,
) -> None:
    from inference_workers.compute import ComputeThread
    from infra import metrics
    from infra.clock import SystemClock
    from infra.dead_letters import DeadLetters
    from infra.kafka import KafkaPublisher
    from schemas.predictions import ModelRef

    clock = SystemClock()
    worker_id = settings.name_of_worker()
    model = ModelRef(name=settings.model_name, version=settings.version, digest=folder.digest)
    publisher = KafkaPublisher(kafka, client_id=worker_id)
    dead_letters = DeadLetters(publisher, "worker")
    delay = _delay(settings, kafka, clock, stop, dead_letters)
    compute = ComputeThread(engine, clock, settings.batch_tokens_max, delay=delay)
    work = _work(settings, cluster, folder, engine.description, model, worker_id, compute, dead_letters, clock)
    loop = _loop(settings, kafka, worker_id, publisher, work, clock, stop)
    if settings.metrics_port:
        metrics.serve(settings.metrics_port)
    LOG.info("serving %s %s on %s as %s", model.name, model.version, engine.description, worker_id)
    loop.run()
    compute.close()
    publisher.close()
    LOG.info("stopped in order")


def _work(
    settings: WorkerSettings,
    cluster: KafkaCluster,
    folder: ModelFolder,
    device: str,
    model: ModelRef,
    worker_id: str,
    compute: Compute,
    dead_letters: DeadLetters,
    clock: Clock,
) -> InferenceWork:
    """What is done with records, from its pure parts."""
    from inference_workers.admission import Admission
    from inference_workers.answers import Answers
    from inference_workers.loop import InferenceWork
    from inference_workers.telemetry import TelemetryAccumulator
    from inference_workers.tokenise import Tokeniser
    from schemas.telemetry import WorkerRef

    ref = WorkerRef(worker_id=worker_id, host=socket.gethostname()[:200], pid=os.getpid(), device=device)
    tokeniser = Tokeniser(folder.path, tokens_max=folder.tokens_max, text_bytes_max=settings.text_bytes_max)
    return InferenceWork(
        Admission(tokeniser, clock),
        compute,
        Answers(worker_id, model),
        TelemetryAccumulator(ref, settings.telemetry_flush_ms),
        dead_letters,
        lambda topic: (cluster.cluster_id, cluster.topic_id(topic)),
        clock,
        model=model,
        limit=settings.batch_limit,
        queue_requests_max=settings.queue_requests_max,
        queue_bytes_max=settings.queue_bytes_max,
    )


def _loop(
    settings: WorkerSettings,
    kafka: KafkaSettings,
    worker_id: str,
    publisher: Publisher,
    work: Work,
    clock: Clock,
    stop: threading.Event,
) -> BatchLoop:
    """The consume loop, not yet a member of the group."""
    from inference_workers.loop import DELIVERIES_PER_RECORD
    from infra.batch_loop import BatchLoop, LoopLimit
    from infra.kafka import KafkaLog
    from infra.outbox import Outbox
    from schemas.topics import REQUESTS

    return BatchLoop(
        lambda assigned, revoked: KafkaLog(
            kafka,
            group=settings.group,
            topics=[REQUESTS.name],
            client_id=worker_id,
            on_assigned=assigned,
            on_revoked=revoked,
        ),
        Outbox(publisher, clock),
        work,
        clock,
        LoopLimit(deliveries_per_record=DELIVERIES_PER_RECORD, held_records_max=settings.queue_requests_max),
        stop=stop,
        wait=threading.Event().wait,
    )


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

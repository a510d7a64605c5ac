"""`inferwatch worker`: one process that serves a model from Kafka until told to stop."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from inference_workers.loading.load import Loaded
    from inference_workers.loading.preflight import ModelWanted
    from inference_workers.models.verdicts import ModelRefused
    from inference_workers.spec import WorkerSettings
    from inference_workers.telemetry.observer import Observer
    from inference_workers.worker.fleet import Fleet
    from inference_workers.worker.serving import Outside
    from infra.batch_loop import OpenLog
    from infra.health import Readiness
    from infra.kafka import KafkaCluster
    from infra.ports import Clock, Publisher
    from infra.settings import KafkaSettings

LOG = logging.getLogger(__name__)
EXIT_INTERNAL = 70
SWITCH_SECONDS = 0.0001
"""How long the loop's thread may hold the interpreter against the one that computes: by default 5 ms, which a forward
pass of 40 ms waits for several times."""
COLLECT_AFTER = 50_000
"""Objects made and not freed since the last collection. By default it is 700, which every batch exceeds: the collector
then takes a tenth of the loop's time to find that nothing is to be collected, as requests hold no cycles."""
DEPLOYMENTS_SECONDS_MAX = 15.0
"""How long a starting worker waits for the deployments that hold already."""
READY_SECONDS_MAX = 60.0
"""How long a worker waits for Kafka and the topics when it starts."""
REFUSAL_SECONDS_MAX = 5.0
"""How long a worker whose model is refused waits for Kafka to confirm the event that says so."""


@click.command("worker")
@click.option("--model", help="Folder, installed package or hub id; INFERWATCH_WORKER_MODEL.")
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
    setup_logging("worker", worker_id=settings.name_of_worker())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    serve_guarded(lambda: serve(settings, kafka_connection(), stop))


def serve_guarded(serve_: Callable[[], None]) -> None:
    """Run, and end the process with 70 for what nobody foresaw; nothing unfinished is acknowledged then."""
    from infra.ports import TryAgain
    from infra.settings import SettingsError

    try:
        serve_()
    except (SettingsError, TryAgain, click.ClickException):
        raise
    except Exception:
        LOG.critical("the worker ends: its requests stay unacknowledged and go to another one", exc_info=True)
        logging.shutdown()  # the log topic gets the line too
        sys.stderr.flush()
        os._exit(EXIT_INTERNAL)  # a thread may hang in the device's driver: do not wait for it


def serve(settings: WorkerSettings, kafka: KafkaSettings, stop: threading.Event) -> None:
    """Load, join, serve until `stop`. The group is joined only with a model that works, so that no partition waits.

    A stop that comes before ends the waiting for Kafka, and loading before its next step. Raises ModelRefused for a
    model that does not work, and `model.events` says so.
    """
    from inference_workers.models.verdicts import LoadingStopped, ModelRefused
    from inference_workers.worker.observation import start_observer
    from infra.clock import SystemClock

    clock = SystemClock()
    observer, _ = start_observer(settings, clock, stop)
    observer.readiness.starting("loading the model, waiting for Kafka")
    with ThreadPoolExecutor(1, thread_name_prefix="start") as pool:
        loaded = pool.submit(_load, settings, stop)
        cluster = _connect(kafka, stop)
        if cluster is None:
            return
        try:
            own = loaded.result()
        except LoadingStopped:
            return
        except ModelRefused as refusal:
            _tell(refusal, settings, kafka, clock)
            raise
    _run(settings, kafka, cluster, own, clock, observer, stop)


def _load(settings: WorkerSettings, stop: threading.Event, wanted: ModelWanted | None = None) -> Loaded:
    from inference_workers.loading.load import load_servable, real_outside
    from inference_workers.loading.preflight import ModelWanted

    return load_servable(wanted or ModelWanted.of_settings(settings), settings, real_outside(stop.is_set))


def _tell(refusal: ModelRefused, settings: WorkerSettings, kafka: KafkaSettings, clock: Clock) -> None:
    """Say on `model.events` that the worker's own model is refused. Best effort, and soon over."""
    from inference_workers.models.verdicts import LoadFacts, judged
    from inference_workers.worker.fleet import publish_verdict
    from infra.kafka import KafkaPublisher
    from infra.unique_ids import RANDOM_BYTES
    from schemas.predictions import ModelRef

    name = settings.name_of_worker()
    facts = refusal.facts or LoadFacts(ModelRef(name=settings.model_name, version=settings.version), settings.model)
    publisher = KafkaPublisher(kafka, client_id=name)
    publish_verdict(judged(name, facts, refusal=refusal), publisher, clock, lambda: os.urandom(RANDOM_BYTES))
    if publisher.close(REFUSAL_SECONDS_MAX):
        LOG.warning("Kafka did not confirm the event about the refused model within %.0f s", REFUSAL_SECONDS_MAX)


def _connect(kafka: KafkaSettings, stop: threading.Event) -> KafkaCluster | None:
    """Wait for Kafka and check that the topics fit each other; None when `stop` was set before. Raises TryAgain or
    ClickException."""
    from infra.kafka import KafkaCluster
    from infra.ports import RetryLater, TryAgain
    from schemas.topics import DEPLOYMENTS, PREDICTIONS, REQUESTS, TELEMETRY

    cluster = KafkaCluster(kafka)
    if not cluster.wait_ready(READY_SECONDS_MAX, stop):
        return None
    deadline = time.monotonic() + READY_SECONDS_MAX
    while True:
        try:
            names = [topic.name for topic in (REQUESTS, PREDICTIONS, TELEMETRY, DEPLOYMENTS)]
            counts = {name: cluster.partitions(name) for name in names}
        except RetryLater as away:
            raise TryAgain(str(away)) from None
        missing = [name for name, count in counts.items() if count == 0]
        if not missing:
            break
        if time.monotonic() > deadline:
            raise TryAgain(f"no topic {', '.join(missing)}: `inferwatch topics apply` makes it")
        if stop.wait(0.1):  # `inferwatch up` makes them while the model is loaded
            return None
    del counts[DEPLOYMENTS.name]
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
    own: Loaded,
    clock: Clock,
    observer: Observer,
    stop: threading.Event,
) -> None:
    from inference_workers.batching.compute import ComputeThread
    from inference_workers.models.verdicts import LoadingStopped
    from inference_workers.worker.made_anew import MadeAnewWatch
    from inference_workers.worker.observation import start_log_topic, start_scaling
    from inference_workers.worker.serving import new_loop, new_work
    from infra.kafka import KafkaPublisher
    from infra.ports import RetryLater, TryAgain
    from schemas.topics import REQUESTS

    worker_id = settings.name_of_worker()
    publisher = KafkaPublisher(kafka, client_id=worker_id)
    log_topic = start_log_topic(publisher, worker_id, clock)
    outside = _outside(kafka, cluster, clock, publisher, worker_id)
    try:
        made_anew = MadeAnewWatch(cluster, REQUESTS.name, stop, cluster.topic_id(REQUESTS.name))
        fleet = _fleet(settings, kafka, cluster, own, outside, stop)
    except LoadingStopped:
        _close(log_topic, publisher)
        return
    except RetryLater as away:
        raise TryAgain(str(away)) from None
    compute = ComputeThread(clock, delay=_delay(settings, kafka, outside, stop))
    work = new_work(settings, fleet.deployments.table, compute, outside, fleet.models, observer)
    loop = new_loop(
        settings, _open_log(settings, kafka, cluster, observer.readiness), work, outside, stop, wait=compute.wait
    )
    observer.ready_to_join()
    start_scaling(observer, cluster, settings, clock, stop)
    made_anew.start()
    LOG.info("serving %s %s on %s as %s", own.facts.ref.name, own.facts.ref.version, own.servable.device, worker_id)
    sys.setswitchinterval(SWITCH_SECONDS)
    spare_collections()
    loop.run()
    observer.close()
    compute.close()
    _close(log_topic, publisher)
    if made_anew.seen:
        raise TryAgain(made_anew.seen)  # whoever looks after the process starts another


def _close(log_topic: logging.Handler | None, publisher: Publisher) -> None:
    LOG.info("stopped in order")
    if log_topic is not None:
        log_topic.close()
    publisher.close()


def _open_log(settings: WorkerSettings, kafka: KafkaSettings, cluster: KafkaCluster, readiness: Readiness) -> OpenLog:
    """What joins the group for the requests, once it is called."""
    from infra.kafka import KafkaLog
    from schemas.topics import REQUESTS

    return lambda assigned, revoked: KafkaLog(
        kafka,
        group=settings.group,
        topics=[REQUESTS.name],
        client_id=settings.name_of_worker(),
        on_assigned=assigned,
        on_revoked=revoked,
        on_lost=readiness.left,
        topic_id_of=cluster.topic_id,
    )


def _outside(
    kafka: KafkaSettings, cluster: KafkaCluster, clock: Clock, publisher: Publisher, worker_id: str
) -> Outside:
    """What the worker's parts see of Kafka."""
    from inference_workers.answers.earlier import READ_SECONDS_MAX, KafkaEarlierAnswers
    from inference_workers.worker.serving import Outside
    from infra.dead_letters import DeadLetters
    from infra.kafka import KafkaRangeReader

    reader = KafkaRangeReader(kafka, clock, client_id=worker_id, seconds=READ_SECONDS_MAX)
    return Outside(
        clock,
        publisher,
        DeadLetters(publisher, "worker"),
        lambda topic: (cluster.cluster_id, cluster.topic_id(topic)),
        KafkaEarlierAnswers(cluster, reader),
    )


def _fleet(
    settings: WorkerSettings,
    kafka: KafkaSettings,
    cluster: KafkaCluster,
    own: Loaded,
    outside: Outside,
    stop: threading.Event,
) -> Fleet:
    """The worker's models: what is deployed already is loaded before the group is joined, what comes is followed."""
    from inference_workers.worker.fleet import Fleet
    from infra.kafka import KafkaRangeReader, KafkaTail
    from infra.unique_ids import RANDOM_BYTES
    from schemas.topics import DEPLOYMENTS

    fleet = Fleet(
        own,
        lambda wanted: _load(settings, stop, wanted),
        outside.publisher,
        outside.clock,
        settings.name_of_worker(),
        lambda: os.urandom(RANDOM_BYTES),
    )
    reader = KafkaRangeReader(
        kafka, outside.clock, client_id=settings.name_of_worker(), seconds=DEPLOYMENTS_SECONDS_MAX
    )
    held = cluster.ranges(DEPLOYMENTS.name).get(0, (0, 0))
    next_offset = fleet.read_held(reader, held, lambda record, error: None)
    fleet.follow(
        lambda: KafkaTail(kafka, [DEPLOYMENTS.name], start={(DEPLOYMENTS.name, 0): next_offset}),
        stop,
        outside.dead_letters.send,
    )
    return fleet


def _delay(
    settings: WorkerSettings, kafka: KafkaSettings, outside: Outside, stop: threading.Event
) -> Callable[[], None]:
    """What holds batches back: the drills, where they are allowed."""
    if not settings.drills:
        return lambda: None
    from inference_workers.deployments.drills import DrillWatch
    from infra.kafka import KafkaTail
    from schemas.topics import DRILLS

    return DrillWatch(
        lambda start_ms: KafkaTail(kafka, [DRILLS.name], start=start_ms),
        outside.clock,
        stop,
        outside.dead_letters.send,
    ).hold_back


def spare_collections() -> None:
    """Leave the libraries and the model out of every later collection, and collect seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 50)

"""Starts what watches a worker beside its loop: health port, device, scaler, log topic. A shell; decides nothing."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from inference_workers.scaling.settings import ScalingSettings
from inference_workers.scaling.watch import Cluster, ScalingWatch
from inference_workers.spec import WorkerSettings
from inference_workers.telemetry.observer import Observer
from infra.device_stats import DeviceReading, DeviceWatch, OwnUsage
from infra.health_server import HealthServer
from infra.log_topic import TopicHandler
from infra.meters import Exposition
from infra.metrics import CATALOGUE, EVERY, WORKER
from infra.nvml import open_device
from infra.ports import Clock, Publisher
from infra.settings import HealthSettings, LogSettings, load
from schemas.topics import REQUESTS


def start_observer(
    settings: WorkerSettings, clock: Clock, stop: threading.Event
) -> tuple[Observer, HealthServer | None]:
    """The observer and, when a port is set, the server of `/metrics` and `/health`. Call it before the model is loaded:
    probes then see why the worker is not ready yet. Raises TryAgain when the port cannot be had."""
    health = load(HealthSettings)
    device: Callable[[], DeviceReading] = DeviceReading
    if settings.device != "cpu":
        watch = DeviceWatch(lambda: open_device(os.environ.get("CUDA_VISIBLE_DEVICES")), clock)
        watch.start(stop)
        device = watch.latest
    observer = Observer(health.policy, clock, OwnUsage(), device=device, is_stopping=stop.is_set)
    if not settings.metrics_port:
        return observer, None
    server = HealthServer(
        health.address,
        settings.metrics_port,
        observer.readiness,
        Exposition(CATALOGUE, {EVERY, WORKER}),
        clock,
        process=settings.name_of_worker(),
        details=lambda: observer.details(),
    )
    return observer, server


def start_scaling(
    observer: Observer, cluster: Cluster, settings: WorkerSettings, clock: Clock, stop: threading.Event
) -> None:
    """Look at the group's lag from now on. The cluster's client is used on the scaler's thread."""
    scaling = load(ScalingSettings)
    if not scaling.look_seconds:
        return
    pace = observer.pace
    watch = ScalingWatch(cluster, settings.group, REQUESTS.name, lambda: pace.per_second, scaling.policy, clock)
    observer.details = watch.details
    watch.start(scaling.look_seconds, stop)


def start_log_topic(publisher: Publisher, worker_id: str, clock: Clock) -> logging.Handler | None:
    """Put this process's log lines on the log topic from now on; None when settings say no. Close the handler before
    the publisher; `logging.shutdown()` does so too, also just before an `os._exit`."""
    settings = load(LogSettings)
    if not settings.publish:
        return None
    handler = TopicHandler(publisher, clock, worker_id, settings.publish_level)
    logging.getLogger().addHandler(handler)
    return handler

"""Loads the compiled loops of both stages, compiling what is not cached: seconds, better spent before a record."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from infra.ports import Record
from schemas.base import encode, headers_for
from schemas.predictions import ModelRef
from schemas.telemetry import BatchColumns, BatchReason, InferenceServed, Outcome, RequestColumns, WorkerRef
from stream_jobs.attribution import regression
from stream_jobs.detectors import two_heads
from stream_jobs.request_log import AnyRequests
from stream_jobs.request_stage import RequestStage
from stream_jobs.settings import JobSettings

_NAME = "warm-up"


def warm_up(settings: JobSettings) -> None:
    """Run a made event through a stage 1 that nobody keeps, and the detector of windows over a point. For a thread: it
    takes seconds."""
    two_heads.warm_up()
    regression.warm_up()
    stage = RequestStage(settings, topic_id=_NAME, partition=0, window_partitions=1, requests=AnyRequests())
    event = _event()
    headers = headers_for(event, event_id=_NAME, source=_NAME, time=datetime.fromtimestamp(0, UTC))
    stage.apply(Record(_NAME, 0, 0, 0, None, encode(event), tuple(headers)))


def _event() -> InferenceServed:
    one: Any = [1]
    real: Any = [1.0]
    return InferenceServed(
        cluster_id=_NAME,
        topic_id=_NAME,
        partition=0,
        worker=WorkerRef(worker_id=_NAME, host=_NAME, pid=1, device="cpu"),
        models=[ModelRef(name=_NAME, version="1")],
        scenarios=[_NAME],
        batches=BatchColumns(
            **dict.fromkeys(("size", "tokens", "padded_tokens", "queue_depth", "memory_bytes"), one),
            model=[0],
            tokenise_ms=real,
            compute_ms=real,
            reason=[BatchReason.FULL],
        ),
        requests=RequestColumns(
            **dict.fromkeys(("offset", "appended_ms", "inputs", "input_bytes", "tokens"), one),
            **dict.fromkeys(("queue_ms", "total_ms", "unknown_share", "output_norm", "confidence"), real),
            outcome=[Outcome.ANSWERED],
            scenario=[0],
            batch=[0],
            request_id=[_NAME],
            truncated=[False],
            error=[""],
        ),
    )

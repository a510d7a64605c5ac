"""A telemetry event as columns: what the table, the row model and the window need of its new requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from schemas.base import DecodeError, Reason
from schemas.tables import first_wins
from schemas.telemetry import BatchColumns, InferenceServed, Outcome, RequestColumns
from schemas.windows import SeriesKey
from stream_jobs.attribution.factors import vectors_of
from stream_jobs.causes import histogram_bins, rare_of
from stream_jobs.features import Floats, features_of
from stream_jobs.windows import OUTCOMES, Ints, WindowRows

UINT32_MAX = 2**32 - 1
_WIDE = 1_024
"""Above the largest index of a model or a scenario (255) with room for -1."""
_CODES = {outcome: number for number, outcome in enumerate(OUTCOMES)}
T = TypeVar("T")


def check_fits(event: InferenceServed) -> None:
    """Raises DecodeError when a number is larger than its column in the tables."""
    batches, requests = event.batches, event.requests
    columns: dict[str, Sequence[int]] = {
        "batches.size": batches.size,
        "batches.tokens": batches.tokens,
        "batches.padded_tokens": batches.padded_tokens,
        "batches.queue_depth": batches.queue_depth,
        "batches.computed": batches.computed,
        "requests.inputs": requests.inputs,
        "requests.input_bytes": requests.input_bytes,
        "requests.tokens": requests.tokens,
    }
    for name, values in columns.items():
        if values and max(values) > UINT32_MAX:
            raise DecodeError(Reason.BAD_VALUE, f"{name}: {max(values)} is above {UINT32_MAX}")


@dataclass(frozen=True, slots=True)
class Grouping:
    """The requests of an event by model and scenario: `keys[series[i]]` is request i's, `models` says which had one."""

    keys: list[SeriesKey]
    series: Ints
    in_batch: NDArray[np.bool_]


class TelemetryRows:
    """The requests of one event that `chosen` keeps (None: all), in order, as parallel lists."""

    def __init__(self, event: InferenceServed, chosen: NDArray[np.bool_] | None) -> None:
        self.event = event
        keep = None if chosen is None else np.flatnonzero(chosen).tolist()
        requests: RequestColumns = event.requests
        self.requests: dict[str, list[Any]] = {
            name: _kept(_told(requests, name), keep) for name in RequestColumns.model_fields
        }
        self.count = len(self.requests["offset"])
        batches: BatchColumns = event.batches
        batch = self.requests["batch"]
        # -1, in no batch, picks the last entry, which stands for it.
        self.sizes = _picked(batches.size, 0, batch)
        self.tokens = _picked(batches.tokens, 0, batch)
        self.padded_tokens = _picked(batches.padded_tokens, 0, batch)
        self.tokenise_ms = _picked(batches.tokenise_ms, 0.0, batch)
        self.compute_ms = _picked(batches.compute_ms, 0.0, batch)
        self.queue_depth = _picked(batches.queue_depth, 0, batch)
        self.memory_bytes = _picked(batches.memory_bytes, 0, batch)
        self.reasons = _picked([reason.value for reason in batches.reason], "", batch)
        self.post_ms = _picked(batches.post_ms or [0.0] * len(batches.size), 0.0, batch)
        self.computed = _picked(batches.computed or batches.size, 0, batch)
        # What was in no batch may have reached a model all the same: answered from the cache, shed.
        told = self.requests["model"]
        self.models = _picked(batches.model, -1, batch) if not requests.model else told

    def grouping(self) -> Grouping:
        """The series of each request. What is not known, and the model of what was in no batch, is empty text."""
        codes = (np.array(self.models, dtype=np.int64) + 1) * _WIDE + np.array(self.requests["scenario"]) + 1
        distinct, series = np.unique(codes, return_inverse=True)
        keys = []
        for code in distinct.tolist():
            model, scenario = divmod(code, _WIDE)
            reference = self.event.models[model - 1] if model else None
            keys.append(
                SeriesKey(
                    model=reference.name if reference else "",
                    version=reference.version if reference else "",
                    scenario=self.event.scenarios[scenario - 1] if scenario else "",
                )
            )
        return Grouping(keys, series, np.array(self.requests["batch"], dtype=np.int64) >= 0)

    def features(self) -> Floats:
        """What the row model sees, (count, features)."""
        failed = [outcome is Outcome.FAILED for outcome in self.requests["outcome"]]
        columns: dict[str, Sequence[Any]] = {
            "batch_size": self.sizes,
            "compute_ms": self.compute_ms,
            "error": failed,
            **{name: self.requests[name] for name in ("input_bytes", "output_norm", "queue_ms", "tokens")},
            **{name: self.requests[name] for name in ("total_ms", "unknown_share")},
        }
        return features_of({name: np.array(values, dtype=np.float64) for name, values in columns.items()})

    def for_window(self, grouping: Grouping, scores: Floats) -> WindowRows:
        """What the open window adds up."""
        requests = self.requests
        tokens = np.array(requests["tokens"], dtype=np.int64)
        batch_tokens = np.maximum(np.array(self.tokens, dtype=np.float64), 1.0)
        outcome = np.array([_CODES[outcome] for outcome in requests["outcome"]], dtype=np.int64)
        unknown_share = np.array(requests["unknown_share"], dtype=np.float64)
        confidence = np.array(requests["confidence"], dtype=np.float64)
        norm = np.array(requests["output_norm"], dtype=np.float64)
        # What was in no batch, because all of it was cached, has the memory of the batches that it was told with.
        told = max(self.event.batches.memory_bytes, default=0)
        memory_bytes = np.where(grouping.in_batch, np.array(self.memory_bytes, dtype=np.float64), float(told))
        # An older worker does not tell how sure an output is: nothing can be said to be empty then.
        empty = (outcome == 0) & (confidence == 0.0) & (norm == 0.0) & bool(self.event.requests.confidence)
        return WindowRows(
            keys=grouping.keys,
            series=grouping.series,
            outcome=outcome,
            in_batch=grouping.in_batch,
            counts={
                "inputs": np.array(requests["inputs"], dtype=np.int64),
                "tokens": tokens,
                "truncated": np.array(requests["truncated"], dtype=np.int64),
            },
            padded_tokens=np.minimum(np.array(self.padded_tokens) * (tokens / batch_tokens), float(UINT32_MAX)),
            unknown_share=unknown_share,
            row_score=scores,
            queue_depth=np.array(self.queue_depth, dtype=np.int64),
            memory_bytes=np.array(self.memory_bytes, dtype=np.int64),
            latencies={
                "total_ms": np.array(requests["total_ms"], dtype=np.float64),
                "queue_ms": np.array(requests["queue_ms"], dtype=np.float64),
                "compute_ms": np.array(self.compute_ms, dtype=np.float64),
            },
            rare=rare_of(outcome, requests["error"], requests["request_id"], empty),
            bins=histogram_bins(outcome, tokens, unknown_share, confidence, norm),
            worker=self.event.worker.worker_id,
            vectors=vectors_of(
                total_ms=np.array(requests["total_ms"], dtype=np.float64),
                queue_ms=np.array(requests["queue_ms"], dtype=np.float64),
                batch_tokens=np.array(self.tokens, dtype=np.float64),
                batch_padded_tokens=np.array(self.padded_tokens, dtype=np.float64),
                batch_size=np.array(self.sizes, dtype=np.float64),
                cached=np.array(requests["cached"], dtype=np.float64),
                memory_bytes=memory_bytes,
            ),
            measured=(outcome == 0) & (grouping.in_batch | (told > 0)),
        )

    def _sampled(self) -> dict[str, float | None]:
        """How the worker was doing when it told these."""
        sample = self.event.sample
        return {name: None if sample is None else getattr(sample, name) for name in _SAMPLED}

    def for_table(
        self, grouping: Grouping, scores: Floats, learning: NDArray[np.bool_], served_ms: int, telemetry_offset: int
    ) -> dict[str, list[Any]]:
        """Columns of `schemas.tables.REQUESTS`; times as epoch milliseconds."""
        event, requests, count = self.event, self.requests, self.count
        series = grouping.series.tolist()
        names = (
            *("request_id", "error", "queue_ms", "total_ms", "inputs", "input_bytes", "tokens"),
            *("cached", "confidence", "margin", "entropy", "fingerprint"),
        )
        references = [event.models[number] if number >= 0 else None for number in self.models]
        return {
            "cluster_id": [event.cluster_id] * count,
            "topic_id": [event.topic_id] * count,
            "partition": [event.partition] * count,
            "offset": requests["offset"],
            "appended_at": requests["appended_ms"],
            "served_at": [served_ms] * count,
            "telemetry_offset": [telemetry_offset] * count,
            "version": [first_wins(telemetry_offset)] * count,
            "scenario": [grouping.keys[number].scenario for number in series],
            "model": [grouping.keys[number].model for number in series],
            "model_version": [grouping.keys[number].version for number in series],
            "worker_id": [event.worker.worker_id] * count,
            "outcome": [outcome.value for outcome in requests["outcome"]],
            "tokenise_ms": self.tokenise_ms,
            "compute_ms": self.compute_ms,
            "batch_size": self.sizes,
            "batch_reason": self.reasons,
            "batch_tokens": self.tokens,
            "batch_padded_tokens": self.padded_tokens,
            "queue_depth": self.queue_depth,
            "memory_bytes": self.memory_bytes,
            "unknown_share": requests["unknown_share"],
            "output_norm": requests["output_norm"],
            "truncated": requests["truncated"],
            "score": scores.tolist(),
            "learning": learning.tolist(),
            "arm": [reference.arm if reference else "" for reference in references],
            "model_digest": [reference.digest if reference else "" for reference in references],
            "post_ms": self.post_ms,
            "batch_computed": self.computed,
            **{name: requests[name] for name in names},
            **{name: [value] * count for name, value in self._sampled().items()},
        }


_SAMPLED = ("publish_ms", "process_cpu_share", "device_utilisation", "power_watts", "temperature_celsius")


def _kept(values: list[T], keep: list[int] | None) -> list[T]:
    return values if keep is None else [values[i] for i in keep]


_NOT_TOLD: dict[str, Any] = {"fingerprint": "", "model": -1}
"""What stands for a column that an older worker does not tell; 0 for the others."""


def _told(requests: RequestColumns, name: str) -> list[Any]:
    values: list[Any] = getattr(requests, name)
    return values if values else [_NOT_TOLD.get(name, 0.0)] * len(requests.offset)


def _picked(values: Sequence[T], none: T, batch: Sequence[int]) -> list[T]:
    with_none = [*values, none]
    return [with_none[i] for i in batch]

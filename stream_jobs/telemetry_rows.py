"""A telemetry event as columns: what the table, the row model and the window need of its new requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.columns import Coded, Column
from schemas.tables import first_wins
from schemas.telemetry import BatchReason, Outcome
from schemas.windows import SeriesKey
from stream_jobs.attribution.factors import vectors_of
from stream_jobs.causes import histogram_bins, rare_of
from stream_jobs.features import Floats, features_of
from stream_jobs.request_arrays import OUTCOME_NAMES, OUTCOMES
from stream_jobs.telemetry_decoding import UINT32_MAX, Served
from stream_jobs.windows import Ints, WindowRows

_WIDE = 1_024
"""Above the largest index of a model or a scenario (255) with room for -1."""
_FAILED = OUTCOMES.index(Outcome.FAILED)
_REASONS = ("", *(reason.value for reason in BatchReason))


@dataclass(frozen=True, slots=True)
class Grouping:
    """The requests of an event by model and scenario: `keys[series[i]]` is request i's, `models` says which had one."""

    keys: list[SeriesKey]
    series: Ints
    in_batch: NDArray[np.bool_]


class TelemetryRows:
    """The requests of one event that `chosen` keeps (None: all), in order, as arrays."""

    def __init__(self, served: Served, chosen: NDArray[np.bool_] | None) -> None:
        self.event = served.event
        requests = self.requests = served.requests if chosen is None else served.requests.chosen(np.flatnonzero(chosen))
        self.count = len(requests)
        batches, batch = self.event.batches, requests.batch
        self.sizes = _picked(batches.size, batch)
        self.tokens = _picked(batches.tokens, batch)
        self.padded_tokens = _picked(batches.padded_tokens, batch)
        self.tokenise_ms = _picked(batches.tokenise_ms, batch, np.float64)
        self.compute_ms = _picked(batches.compute_ms, batch, np.float64)
        self.queue_depth = _picked(batches.queue_depth, batch)
        self.memory_bytes = _picked(batches.memory_bytes, batch)
        self.reasons = _picked([_REASONS.index(reason.value) for reason in batches.reason], batch, np.int32)
        self.post_ms = _picked(batches.post_ms or [0.0] * len(batches.size), batch, np.float64)
        self.computed = _picked(batches.computed or batches.size, batch)
        # What was in no batch may have reached a model all the same: answered from the cache, shed.
        self.models = requests.model if requests.tells_model else _picked(batches.model, batch, none=-1)

    def grouping(self) -> Grouping:
        """The series of each request. What is not known, and the model of what was in no batch, is empty text."""
        codes = (self.models + 1) * _WIDE + self.requests.scenario + 1
        distinct, series = _numbered(codes)
        keys = []
        for code in distinct:
            model, scenario = divmod(code, _WIDE)
            reference = self.event.models[model - 1] if model else None
            keys.append(
                SeriesKey(
                    model=reference.name if reference else "",
                    version=reference.version if reference else "",
                    scenario=self.event.scenarios[scenario - 1] if scenario else "",
                )
            )
        return Grouping(keys, series, self.requests.batch >= 0)

    def features(self) -> Floats:
        """What the row model sees, (count, features)."""
        requests = self.requests
        return features_of(
            {
                "batch_size": self.sizes.astype(np.float64),
                "compute_ms": self.compute_ms,
                "error": (requests.outcome == _FAILED).astype(np.float64),
                "input_bytes": requests.input_bytes.astype(np.float64),
                "output_norm": requests.output_norm,
                "queue_ms": requests.queue_ms,
                "tokens": requests.tokens.astype(np.float64),
                "total_ms": requests.total_ms,
                "unknown_share": requests.unknown_share,
            }
        )

    def for_window(self, grouping: Grouping, scores: Floats) -> WindowRows:
        """What the open window adds up."""
        requests, outcome, tokens = self.requests, self.requests.outcome, self.requests.tokens
        batch_tokens = np.maximum(self.tokens.astype(np.float64), 1.0)
        confidence, norm = requests.confidence, requests.output_norm
        # What was in no batch, because all of it was cached, has the memory of the batches that it was told with.
        told = max(self.event.batches.memory_bytes, default=0)
        memory_bytes = np.where(grouping.in_batch, self.memory_bytes, told)
        # An older worker does not tell how sure an output is: nothing can be said to be empty then.
        empty = (outcome == 0) & (confidence == 0.0) & (norm == 0.0) & requests.tells_confidence
        return WindowRows(
            keys=grouping.keys,
            series=grouping.series,
            outcome=outcome,
            in_batch=grouping.in_batch,
            counts={"inputs": requests.inputs, "tokens": tokens, "truncated": requests.truncated.astype(np.int64)},
            padded_tokens=np.minimum(self.padded_tokens * (tokens / batch_tokens), float(UINT32_MAX)),
            unknown_share=requests.unknown_share,
            row_score=scores,
            queue_depth=self.queue_depth,
            memory_bytes=self.memory_bytes,
            latencies={"total_ms": requests.total_ms, "queue_ms": requests.queue_ms, "compute_ms": self.compute_ms},
            rare=rare_of(outcome, requests.error, requests.request_id, empty),
            bins=histogram_bins(requests),
            worker=self.event.worker.worker_id,
            vectors=vectors_of(
                total_ms=requests.total_ms,
                queue_ms=requests.queue_ms,
                batch_tokens=self.tokens,
                batch_padded_tokens=self.padded_tokens,
                batch_size=self.sizes,
                cached=requests.cached,
                memory_bytes=memory_bytes,
            ),
            measured=(outcome == 0) & (grouping.in_batch | (told > 0)),
        )

    def _sampled(self) -> dict[str, Column]:
        """How the worker was doing when it told these; NaN where that is not known."""
        sample = self.event.sample
        told = {name: None if sample is None else getattr(sample, name) for name in _SAMPLED}
        return {name: np.full(self.count, np.nan if value is None else value) for name, value in told.items()}

    def for_table(
        self, grouping: Grouping, scores: Floats, learning: NDArray[np.bool_], served_ms: int, telemetry_offset: int
    ) -> dict[str, Column]:
        """Columns of `schemas.tables.REQUESTS`, packed; times as epoch milliseconds."""
        event, requests, count = self.event, self.requests, self.count
        told = (
            *("request_id", "error", "queue_ms", "total_ms", "inputs", "input_bytes", "tokens", "unknown_share"),
            *("output_norm", "truncated", "cached", "confidence", "margin", "entropy", "fingerprint", "offset"),
        )
        series, models = grouping.series.astype(np.int32), self.models.astype(np.int32)  # -1: the last name
        return {
            "cluster_id": Coded.same(event.cluster_id, count),
            "topic_id": Coded.same(event.topic_id, count),
            "partition": np.full(count, event.partition),
            "appended_at": requests.appended_ms,
            "served_at": np.full(count, served_ms),
            "telemetry_offset": np.full(count, telemetry_offset),
            "version": np.full(count, first_wins(telemetry_offset)),
            "scenario": Coded([key.scenario for key in grouping.keys], series),
            "model": Coded([key.model for key in grouping.keys], series),
            "model_version": Coded([key.version for key in grouping.keys], series),
            "worker_id": Coded.same(event.worker.worker_id, count),
            "outcome": Coded(OUTCOME_NAMES, requests.outcome.astype(np.int32)),
            "tokenise_ms": self.tokenise_ms,
            "compute_ms": self.compute_ms,
            "batch_size": self.sizes,
            "batch_reason": Coded(_REASONS, self.reasons),
            "batch_tokens": self.tokens,
            "batch_padded_tokens": self.padded_tokens,
            "queue_depth": self.queue_depth,
            "memory_bytes": self.memory_bytes,
            "score": scores,
            "learning": learning,
            "arm": Coded([*(model.arm for model in event.models), ""], models),
            "model_digest": Coded([*(model.digest for model in event.models), ""], models),
            "post_ms": self.post_ms,
            "batch_computed": self.computed,
            **{name: getattr(requests, name) for name in told},
            **self._sampled(),
        }


_SAMPLED = ("publish_ms", "process_cpu_share", "device_utilisation", "power_watts", "temperature_celsius")


_DISTINCT_MAX = 16
"""Above so many different ones sorting is quicker than looking through them."""


def _numbered(codes: Ints) -> tuple[list[int], Ints]:
    """The different codes, rising, and for each of `codes` its place among them."""
    from stream_jobs.compiled_window import sorted_codes  # numba takes a second to import

    distinct, series = np.empty(_DISTINCT_MAX, dtype=np.int64), np.empty(len(codes), dtype=np.int64)
    count = sorted_codes(codes, distinct, series)
    if count < 0:
        distinct, series = np.unique(codes, return_inverse=True)
    return (distinct if count < 0 else distinct[:count]).tolist(), series


def _picked(values: Sequence[Any], batch: Ints, dtype: type = np.int64, none: int = 0) -> NDArray[Any]:
    """Each request's value of its batch. -1, in no batch, picks the last entry, which stands for it."""
    return np.array([*values, none], dtype=dtype)[batch]

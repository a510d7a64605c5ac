"""What the table of requests must hold for a telemetry event, by the words of its columns' descriptions.

Written apart from the stream jobs on purpose: request by request in plain Python, from the event as the schema reads
it. The jobs read the same bytes with compiled code into arrays; a fault in theirs is not repeated here. Two columns
are left out, because telemetry does not tell them: `score` and `learning` are the row model's (a replay proves them).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.base import INT64_MAX
from schemas.tables import REQUESTS
from schemas.telemetry import InferenceServed

KEY = ("cluster_id", "topic_id", "partition", "offset")
"""Rows are found by these."""
APART = ("telemetry_offset", "served_at")
"""Compared by themselves: they say which record a row is of, and when the log had it."""
NOT_TOLD = ("score", "learning")
COMPARED = tuple(column for column in REQUESTS.columns if column.name not in (*KEY, *APART, *NOT_TOLD))
UINT32_MAX = 2**32 - 1


class NotStorable(ValueError):
    """An event with a number that no row can hold: the job makes a dead letter of it."""


def expected(event: InferenceServed, telemetry_offset: int) -> dict[str, Sequence[Any]]:
    """The columns of `COMPARED`, a value for each request of the event; times in epoch milliseconds.

    Raises NotStorable.
    """
    requests, batches, sample = event.requests, event.batches, event.sample
    n = len(requests.offset)
    model = requests.model or [batches.model[b] if b >= 0 else -1 for b in requests.batch]

    def of_batch(values: Sequence[Any], none: Any = 0) -> list[Any]:
        return [values[b] if b >= 0 else none for b in requests.batch]

    def of_model(field: str) -> list[str]:
        return [getattr(event.models[m], field) if m >= 0 else "" for m in model]

    def sampled(field: str) -> list[float | None]:
        return [None if sample is None else getattr(sample, field)] * n

    found: dict[str, Sequence[Any]] = {
        "appended_at": requests.appended_ms,
        "version": [INT64_MAX - telemetry_offset] * n,
        "request_id": requests.request_id,
        "scenario": [event.scenarios[s] if s >= 0 else "" for s in requests.scenario],
        "model": of_model("name"),
        "model_version": of_model("version"),
        "arm": of_model("arm"),
        "model_digest": of_model("digest"),
        "worker_id": [event.worker.worker_id] * n,
        "outcome": [outcome.value for outcome in requests.outcome],
        "error": requests.error,
        "queue_ms": requests.queue_ms,
        "total_ms": requests.total_ms,
        "tokenise_ms": of_batch(batches.tokenise_ms, 0.0),
        "compute_ms": of_batch(batches.compute_ms, 0.0),
        "post_ms": of_batch(batches.post_ms or [0.0] * len(batches.size), 0.0),
        "batch_size": of_batch(batches.size),
        "batch_reason": of_batch([reason.value for reason in batches.reason], ""),
        "batch_tokens": of_batch(batches.tokens),
        "batch_padded_tokens": of_batch(batches.padded_tokens),
        "batch_computed": of_batch(batches.computed or batches.size),
        "queue_depth": of_batch(batches.queue_depth),
        "memory_bytes": of_batch(batches.memory_bytes),
        "inputs": requests.inputs,
        "input_bytes": requests.input_bytes,
        "tokens": requests.tokens,
        "unknown_share": requests.unknown_share,
        "output_norm": requests.output_norm,
        "truncated": requests.truncated,
        "cached": requests.cached or [0.0] * n,
        "confidence": requests.confidence or [0.0] * n,
        "margin": requests.margin or [0.0] * n,
        "entropy": requests.entropy or [0.0] * n,
        "fingerprint": requests.fingerprint or [""] * n,
        **{name: sampled(name) for name in _SAMPLED},
    }
    for name, most in _LARGEST.items():
        if max(found[name]) > most:
            raise NotStorable(f"{name}: {max(found[name])} is above {most}")
    return found


_SAMPLED = ("publish_ms", "process_cpu_share", "device_utilisation", "power_watts", "temperature_celsius")
_LARGEST = {column.name: UINT32_MAX for column in COMPARED if column.type == "UInt32"}

"""The causes of a slow window in words, for alerts, and in numbers, for events and the table."""

from __future__ import annotations

from typing import Any

from stream_jobs.attribution.regression import CAUSES, LatencyCauses

SHARE_MIN = 0.05
CAUSES_MAX = 3
WORDS = {"batch_size": "batch size", "unexplained": "the same work taking longer"}


def sentence(causes: LatencyCauses | None) -> str:
    """The largest causes of a rise, such as "queue +120 ms (71 %), tokens +30 ms (18 %)"; empty when nothing is known
    or nothing rose."""
    if causes is None or causes.learning:
        return ""
    told = []
    for name, share in list(causes.shares.items())[:CAUSES_MAX]:
        if share < SHARE_MIN:
            continue
        words = WORDS.get(name, name)
        if name == "worker" and causes.slowest_worker:
            words = f"worker {causes.slowest_worker[:80]}"
        told.append(f"{words} {_signed(causes.parts_ms[name])} ms ({share * 100:.0f} %)")
    return ", ".join(told)


def effects(causes: LatencyCauses | None) -> dict[str, float]:
    """By cause, its part of the rise in `<cause>_ms`, and the rise itself as `rise_ms`. Empty when nothing is known."""
    if causes is None or causes.learning:
        return {}
    return {
        **{f"{name}_ms": part for name, part in causes.parts_ms.items()},
        "rise_ms": causes.actual_ms - causes.usual_ms,
    }


def contributors(causes: LatencyCauses | None) -> dict[str, float]:
    """Shares of what made it slower; they sum to 1. Empty when nothing is known or nothing rose."""
    return {} if causes is None or causes.learning else causes.shares


def causes_row(causes: LatencyCauses) -> dict[str, Any]:
    """The columns of `latency_causes` after those that every table of windows begins with."""
    per = causes.coefficients
    return {
        "actual_ms": causes.actual_ms,
        "usual_ms": causes.usual_ms,
        **{f"{name}_ms": causes.parts_ms[name] for name in CAUSES},
        "ms_per_queue_ms": per["queue"],
        "ms_per_token": per["tokens"],
        "ms_per_padding_token": per["padding"],
        "ms_per_batch_request": per["batch_size"],
        "ms_per_cached": per["cache"],
        "ms_per_gib": per["memory"] * 2.0**30,
        "slowest_worker": causes.slowest_worker,
        "slowest_worker_ms": causes.slowest_excess_ms,
        "learning": causes.learning,
    }


def _signed(value: float) -> str:
    return f"{value:+.0f}" if abs(value) >= 10.0 else f"{value:+.1f}"

"""When a service stands still or falls behind, told from its books alone: what is owed, how old, the last answer."""

from __future__ import annotations

from dataclasses import dataclass

from stream_jobs.detectors.forecast_residual import Judgement


@dataclass(frozen=True, slots=True)
class Owed:
    """Requests without an outcome at one moment. Ages in seconds; `answer_seconds` is None when none ever came."""

    count: int
    oldest_seconds: float
    answer_seconds: float | None
    """Since the last outcome of any request, whichever it was."""


@dataclass(frozen=True, slots=True)
class LedgerPolicy:
    """How long is too long."""

    stall_seconds: float = 60.0
    """Requests wait and none gets an outcome: longer than any batch, and than a rebalance of the workers takes."""
    lag_seconds: float = 30.0
    """The oldest waits for so long although outcomes come: by then most callers have given up."""
    lag_owed_min: int = 10
    """Fewer are single requests that take long, not a queue."""


def stall(owed: Owed, policy: LedgerPolicy) -> Judgement:
    """Seconds in which something was owed and nothing came. Idle is no stall: nothing is owed then."""
    return _judged(_still_seconds(owed), policy.stall_seconds)


def lag(owed: Owed, policy: LedgerPolicy) -> Judgement:
    """Age of the oldest request, seconds, while outcomes come. Where none come it is a stall and no lag."""
    counts = owed.count >= policy.lag_owed_min and _still_seconds(owed) <= policy.stall_seconds
    return _judged(owed.oldest_seconds if counts else 0.0, policy.lag_seconds)


def _still_seconds(owed: Owed) -> float:
    if owed.count == 0:
        return 0.0
    silent = owed.oldest_seconds if owed.answer_seconds is None else owed.answer_seconds
    return max(0.0, min(owed.oldest_seconds, silent))


def _judged(seconds: float, limit: float) -> Judgement:
    beyond = max(0.0, seconds) / limit
    return Judgement(beyond / (1.0 + beyond), 1.0, 0.0, 0.0, limit, False)

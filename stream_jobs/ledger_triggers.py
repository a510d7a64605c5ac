"""When a service stands still or falls behind, told from its books alone: what is owed, how old, the last answer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from stream_jobs.detectors.forecast_residual import Judgement

LIVELY_SHARE = 0.5
"""Outcomes come while the last is no older than this share of what makes a stall: beyond, it is no lag any more."""
NAME = "ledger"
"""As scores call it that have no detector."""


@dataclass(frozen=True, slots=True)
class Owed:
    """Requests without an outcome at one moment. Ages in seconds; `answer_seconds` is None when none ever came."""

    count: int
    oldest_seconds: float
    answer_seconds: float | None
    """Since something was last computed, for any request of those who should answer these."""


@dataclass(frozen=True, slots=True)
class LedgerPolicy:
    """How long is too long. With windows of 10 s the defaults are one and a half and three of them."""

    stall_seconds: float = 15.0
    """Requests wait and none gets an answer: longer than the group takes to notice that a worker died (10 s), and
    short enough to be told of within two windows."""
    lag_seconds: float = 30.0
    """The oldest waits for so long although outcomes come: by then most callers have given up."""
    lag_owed_min: int = 10
    """Fewer are single requests that take long, not a queue."""

    def digest(self) -> str:
        """Hash of the configuration, 16 hexadecimal characters."""
        return hashlib.sha256(json.dumps([NAME, asdict(self)], sort_keys=True).encode()).hexdigest()[:16]


def stall(owed: Owed, policy: LedgerPolicy) -> Judgement:
    """Seconds in which something was owed and nothing came. Idle is no stall: nothing is owed then."""
    return _judged(still_seconds(owed), policy.stall_seconds)


def lag(owed: Owed, policy: LedgerPolicy) -> Judgement:
    """Age of the oldest request, seconds, while outcomes come. Where none come it is a stall and no lag."""
    return _judged(waiting_seconds(owed, policy), policy.lag_seconds)


def still_seconds(owed: Owed) -> float:
    """For how long something was owed and nothing came."""
    if owed.count == 0:
        return 0.0
    silent = owed.oldest_seconds if owed.answer_seconds is None else owed.answer_seconds
    return max(0.0, min(owed.oldest_seconds, silent))


def waiting_seconds(owed: Owed, policy: LedgerPolicy) -> float:
    """How long the oldest of many waits although outcomes come; 0 where that is not so."""
    comes = owed.answer_seconds is not None and still_seconds(owed) <= LIVELY_SHARE * policy.stall_seconds
    return max(0.0, owed.oldest_seconds) if comes and owed.count >= policy.lag_owed_min else 0.0


def _judged(seconds: float, limit: float) -> Judgement:
    beyond = max(0.0, seconds) / limit
    return Judgement(beyond / (1.0 + beyond), 1.0, 0.0, 0.0, limit, False)

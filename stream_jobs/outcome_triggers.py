"""When answers get worse, dearer, or are asked for by somebody who should not: from feedback, prices and refusals."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stream_jobs.detectors.forecast_residual import Judgement

Z = 2.576
"""Of the normal distribution: 99 of 100 intervals hold the true share."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Answers that were judged, by people or by outcomes, and those among them that were good."""

    good: int
    judged: int


@dataclass(frozen=True, slots=True)
class QualityPolicy:
    """What loss of quality is worth an alarm."""

    drop_min: float = 0.05
    """Smallest fall of the share of good answers that is certain enough."""
    judged_min: int = 50
    """Fewer judged answers, now or before, say nothing."""


def quality_drop(now: Judged, usual: Judged, policy: QualityPolicy) -> Judgement:
    """How far the share of good answers has surely fallen: the cautious end of Newcombe's interval of the difference
    (Newcombe 1998, method 10), so that few judgements cannot alarm."""
    if min(now.judged, usual.judged) < policy.judged_min:
        return _learning()
    before, after = usual.good / usual.judged, now.good / now.judged
    low, high = _wilson(usual)[0], _wilson(now)[1]
    surely = before - after - math.sqrt((before - low) ** 2 + (high - after) ** 2)
    return _judged(surely / policy.drop_min, before, max(0.0, before - policy.drop_min), 1.0)


@dataclass(frozen=True, slots=True)
class Spent:
    """Money (or seconds of a device) that was spent on so many units of work: tokens, requests."""

    amount: float
    units: int


@dataclass(frozen=True, slots=True)
class CostPolicy:
    """What rise of the cost is worth an alarm."""

    rise_share_min: float = 0.5
    units_min: int = 1_000
    """Less work than that has no price of its own: an idle device costs the same."""


def cost(now: Spent, usual: Spent, policy: CostPolicy) -> Judgement:
    """How much dearer a unit is than usual."""
    if min(now.units, usual.units) < policy.units_min or usual.amount <= 0.0:
        return _learning()
    before, after = usual.amount / usual.units, now.amount / now.units
    upper = before * (1.0 + policy.rise_share_min)
    return _judged((after - before) / (upper - before), before, 0.0, upper)


@dataclass(frozen=True, slots=True)
class ClientWindow:
    """What one client did in a window. `reasons` counts the different reasons for which it was refused."""

    requests: int
    refused: int
    reasons: int
    usual_refused_share: float
    is_known: bool
    """Whether the client was seen in the days before."""


@dataclass(frozen=True, slots=True)
class SecurityPolicy:
    """What behaviour of a client is worth an alarm."""

    refused_min: int = 20
    refused_share_min: float = 0.2
    """Smallest rise of its refused share above its usual."""
    reasons_min: int = 5
    """So many different reasons in one window: somebody tries out what passes."""
    unknown_factor: float = 0.5
    """How much sooner a client that nobody knows is told of."""


def security(seen: ClientWindow, policy: SecurityPolicy) -> Judgement:
    """How far a client's refusals are beyond what its own past explains: many of them, or of many kinds."""
    factor = 1.0 if seen.is_known else policy.unknown_factor
    usual = seen.usual_refused_share
    upper = usual + factor * policy.refused_share_min
    share = seen.refused / max(seen.requests, 1)
    many = (share - usual) / (upper - usual) if seen.refused >= factor * policy.refused_min else 0.0
    probing = seen.reasons / (factor * policy.reasons_min) if seen.refused >= seen.reasons else 0.0
    return _judged(max(many, probing), usual, 0.0, upper)


def _judged(beyond: float, expected: float, lower: float, upper: float) -> Judgement:
    beyond = max(0.0, beyond)
    return Judgement(beyond / (1.0 + beyond), 1.0, expected, lower, upper, False)


def _learning() -> Judgement:
    return Judgement(0.0, 0.0, 0.0, 0.0, 0.0, True)


def _wilson(one: Judged) -> tuple[float, float]:
    """Wilson's interval of a share (Wilson 1927)."""
    n, share = one.judged, one.good / one.judged
    middle = share + Z * Z / (2 * n)
    half = Z * math.sqrt(share * (1.0 - share) / n + Z * Z / (4 * n * n))
    return (middle - half) / (1.0 + Z * Z / n), (middle + half) / (1.0 + Z * Z / n)

"""Which rates a load test tries, how a step is judged, where it saturates. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.step_log import StepMeasure

KEPT_UP_SHARE = 0.95
"""A server that answers less than this share of what arrives is falling behind."""
OWED_LEAST = 10
"""Fewer owed at the end of a step are chance, not a backlog."""
P99_FACTOR, P99_FLOOR_MS = 10.0, 250.0
"""p99 has exploded above ten times that of the calmest step, and above what a person notices."""
NOT_ANSWERED_SHARE_MAX = 0.01
"""More failed or shed answers than this are no service, however fast they come."""
LATE_SECONDS_MAX = 1.0
"""A sender that falls behind its own schedule by more does not offer the rate it says."""


class Verdict(StrEnum):
    """What a step showed."""

    SUSTAINED = "sustained"
    FALLS_BEHIND = "falls behind"
    TOO_SLOW = "p99 exploded"
    NOT_ANSWERED = "failed or shed"
    SENDER_LIMITED = "sender too slow"

    @property
    def saturated(self) -> bool:
        """True when the server could not do it; not when the sender could not."""
        return self in (Verdict.FALLS_BEHIND, Verdict.TOO_SLOW, Verdict.NOT_ANSWERED)


@dataclass(frozen=True, slots=True)
class LoadStep:
    """One rate and what it gave. `cut_short`: the backlog grew so fast that the step was ended early."""

    offered_per_second: float
    measure: StepMeasure
    late_seconds_max: float
    refused: int
    cut_short: bool
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class LoadPolicy:
    """Rates rise by a constant factor from `rate_min` to `rate_max` in `steps`; after the first that saturates,
    `refinements` more look for the limit between it and the last that held."""

    rate_min: float
    rate_max: float
    steps: int
    refinements: int = 2

    @property
    def factor(self) -> float:
        """From one rate to the next."""
        return 1.0 if self.steps < 2 else (self.rate_max / self.rate_min) ** (1 / (self.steps - 1))


@dataclass(frozen=True, slots=True)
class Saturation:
    """Where the limit is. `capacity_per_second`: the most that was answered in a second. `saturates_at_per_second`: the
    lowest rate that was too much; None when the highest rate that was tried still held."""

    sustained_per_second: float | None
    saturates_at_per_second: float | None
    capacity_per_second: float | None
    reason: str


def judge(
    measure: StepMeasure, calmest_p99_ms: float | None, *, late_seconds_max: float, refused: int, cut_short: bool
) -> Verdict:
    """How a step went. `calmest_p99_ms`: the lowest of the steps before, None for the first."""
    if cut_short or (measure.kept_up_share < KEPT_UP_SHARE and measure.owed_at_end >= OWED_LEAST):
        return Verdict.FALLS_BEHIND
    exploded = calmest_p99_ms is not None and measure.p99_ms > max(P99_FLOOR_MS, P99_FACTOR * calmest_p99_ms)
    if measure.unanswered or exploded:
        return Verdict.TOO_SLOW
    if measure.outcomes["failed"] + measure.outcomes["shed"] > NOT_ANSWERED_SHARE_MAX * measure.sent:
        return Verdict.NOT_ANSWERED
    if refused or late_seconds_max > LATE_SECONDS_MAX:
        return Verdict.SENDER_LIMITED
    return Verdict.SUSTAINED


def next_rate(policy: LoadPolicy, done: Sequence[LoadStep]) -> float | None:
    """The rate of the next step, or None when there is nothing more to learn. Never above `rate_max`."""
    if not done:
        return policy.rate_min
    if any(step.verdict is Verdict.SENDER_LIMITED for step in done):
        return None  # more would only measure the sender again
    bad = [step.offered_per_second for step in done if step.verdict.saturated]
    good = [step.offered_per_second for step in done if step.verdict is Verdict.SUSTAINED]
    if not bad:
        number = len(done)
        return None if number >= policy.steps else min(policy.rate_max, policy.rate_min * policy.factor**number)
    low = [rate for rate in good if rate < min(bad)]
    refined = len(done) - (1 + next(i for i, step in enumerate(done) if step.verdict.saturated))
    if refined >= policy.refinements or not low:
        return None
    return float((max(low) * min(bad)) ** 0.5)


def saturation(done: Sequence[LoadStep]) -> Saturation:
    """The limit that the steps show, in numbers and in words."""
    if not done:
        return Saturation(None, None, None, "nothing was measured")
    bad = [step for step in done if step.verdict.saturated]
    lowest = min(bad, key=lambda step: step.offered_per_second, default=None)
    good = [
        step.offered_per_second
        for step in done
        if step.verdict is Verdict.SUSTAINED and (lowest is None or step.offered_per_second < lowest.offered_per_second)
    ]
    capacity = max(step.measure.throughput_per_second for step in done)
    sustained = max(good, default=None)
    if lowest is not None:
        m = lowest.measure
        words = {
            Verdict.FALLS_BEHIND: f"{m.kept_up_share:.0%} of what came was answered meanwhile, {m.owed_at_end} owed",
            Verdict.TOO_SLOW: f"p99 {m.p99_ms:.0f} ms, {m.unanswered} unanswered",
            Verdict.NOT_ANSWERED: f"{m.outcomes['failed']} failed and {m.outcomes['shed']} shed of {m.sent}",
        }[lowest.verdict]
        return Saturation(
            sustained, lowest.offered_per_second, capacity, f"at {lowest.offered_per_second:.0f}/s: {words}"
        )
    if any(step.verdict is Verdict.SENDER_LIMITED for step in done):
        return Saturation(sustained, None, capacity, "not found: this sender cannot send more")
    return Saturation(
        sustained, None, capacity, f"not found: {sustained:.0f}/s was the highest rate tried, and it held"
    )

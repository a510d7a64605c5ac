"""Runs load steps within their bounds: rates from the policy, time from the clock, an early end when it saturates."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.arrivals import Arrivals
from benchmarks.load_exchange import LoadExchange
from benchmarks.load_policy import LoadPolicy, LoadStep, judge, next_rate

BACKLOG_SECONDS = 3.0
"""More owed than the rate sends in so long: the step has shown what it can, and the server is spared the rest."""
DRAIN_SECONDS_MAX = 60.0
"""Longest wait for what is owed after a step. What is left then would spoil the next step, so there is none."""


@dataclass(frozen=True, slots=True)
class LoadTiming:
    """Seconds: of a step's warm-up and measured part, and of everything."""

    warm_up: float
    measured: float
    all_steps: float


def run_steps(
    exchange: LoadExchange,
    policy: LoadPolicy,
    timing: LoadTiming,
    arrivals: Arrivals,
    seed: int,
    *,
    on_step: Callable[[float], None],
    on_done: Callable[[LoadStep], None],
) -> tuple[list[LoadStep], str]:
    """The steps that were done, and why they ended. `on_step` is called with the rate before a step."""
    deadline = time.monotonic() + timing.all_steps
    done: list[LoadStep] = []
    while (rate := next_rate(policy, done)) is not None:
        if time.monotonic() + timing.warm_up + timing.measured > deadline:
            return done, f"the time of {timing.all_steps:.0f} s is used up"
        on_step(rate)
        sent = exchange.run_step(
            arrivals, rate, timing.warm_up + timing.measured, seed + len(done), backlog_seconds=BACKLOG_SECONDS
        )
        log = exchange.wait_answered(sent.count - exchange.refused, DRAIN_SECONDS_MAX)
        # Cut short within the warm-up, what there is must do.
        first = min(int(timing.warm_up * rate), sent.count // 2)
        measure = log.measure(first)
        verdict = judge(
            measure,
            min((step.measure.p99_ms for step in done), default=None),
            late_seconds_max=sent.late_seconds_max,
            refused=exchange.refused,
            cut_short=sent.cut_short,
        )
        done.append(LoadStep(rate, measure, sent.late_seconds_max, exchange.refused, sent.cut_short, verdict))
        on_done(done[-1])
        if measure.unanswered:
            return done, f"{measure.unanswered} requests were still owed {DRAIN_SECONDS_MAX:.0f} s after the step"
    return done, "done"

"""How many alerts a threshold would have raised on past scores, and which threshold spends a weekly budget of them.

Scores of any kind, higher is worse, comparable between series. Pure arithmetic on histories; nothing is looked up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WEEK_MS = 7 * 86_400_000
QUIET_MS = 3_600_000
"""After an alert the same series raises none for so long: one fault, one alert."""


@dataclass(frozen=True, slots=True)
class ScoreHistory:
    """Past scores of one series. NaN: nothing was said there."""

    time_ms: NDArray[np.int64]
    """(n,) Ascending."""
    score: NDArray[np.float64]
    """(n,)"""


@dataclass(frozen=True, slots=True)
class BudgetCost:
    """What a budget comes to on the histories it was computed from."""

    alerts_a_week: float
    """The budget, over all series."""
    threshold: float
    """A score at or above it raises an alert; infinite: not even the highest score fits the budget."""
    alerts: int
    """How many it would have raised, at most budget times weeks."""
    weeks: float
    by_series: Mapping[str, int]
    """Alerts of each series that would have raised any, the most first."""

    @property
    def spent_a_week(self) -> float:
        """Alerts a week over all series."""
        return self.alerts / self.weeks


def alert_times(history: ScoreHistory, threshold: float, quiet_ms: int = QUIET_MS) -> NDArray[np.int64]:
    """When the series would have raised an alert, in milliseconds: none within `quiet_ms` after another."""
    times = history.time_ms[history.score >= threshold]
    kept: list[int] = []
    at = 0
    while at < len(times):
        kept.append(int(times[at]))
        at = max(at + 1, int(np.searchsorted(times, times[at] + quiet_ms)))
    return np.array(kept, dtype=np.int64)


def weeks_of(histories: Mapping[str, ScoreHistory]) -> float:
    """From the earliest point of any series to the latest. Raises ValueError where that is no time at all."""
    spans = [(int(one.time_ms[0]), int(one.time_ms[-1])) for one in histories.values() if len(one.time_ms)]
    length_ms = max(last for _, last in spans) - min(first for first, _ in spans) if spans else 0
    if length_ms <= 0:
        raise ValueError("an alert budget needs a history with at least two times")
    return length_ms / WEEK_MS


def cost_of(
    histories: Mapping[str, ScoreHistory], threshold: float, *, alerts_a_week: float, quiet_ms: int = QUIET_MS
) -> BudgetCost:
    """What that threshold would have raised; `alerts_a_week` is only passed on."""
    counts = {name: len(alert_times(history, threshold, quiet_ms)) for name, history in histories.items()}
    worst_first = sorted((name for name in counts if counts[name]), key=lambda name: (-counts[name], name))
    return BudgetCost(
        alerts_a_week=alerts_a_week,
        threshold=threshold,
        alerts=sum(counts.values()),
        weeks=weeks_of(histories),
        by_series={name: counts[name] for name in worst_first},
    )


def spend(histories: Mapping[str, ScoreHistory], alerts_a_week: float, *, quiet_ms: int = QUIET_MS) -> BudgetCost:
    """The lowest threshold found that raises at most `alerts_a_week` over all series, and what it would have cost.

    Found by halving the ranks of all scores, so it always fits the budget; a still lower one may also fit, since a
    lower threshold starts a quiet time earlier. Raises ValueError for a budget below 0 or without a history.
    """
    if not alerts_a_week >= 0:
        raise ValueError(f"a budget of {alerts_a_week} alerts a week")
    allowed = math.floor(alerts_a_week * weeks_of(histories))
    values = np.unique(np.concatenate([one.score[np.isfinite(one.score)] for one in histories.values()]))[::-1]
    fits, too_many = -1, len(values)
    step = max(1, allowed)
    while too_many - fits > 1:
        # Far fewer scores are above the threshold than below: look from the top in growing steps, then halve.
        middle = min(fits + step, too_many - 1) if too_many == len(values) else (fits + too_many) // 2
        if _count(histories, float(values[middle]), quiet_ms, allowed) <= allowed:
            fits, step = middle, 2 * step
        else:
            too_many = middle
    threshold = math.inf if fits < 0 else float(values[fits])
    return cost_of(histories, threshold, alerts_a_week=alerts_a_week, quiet_ms=quiet_ms)


def spend_each(
    histories: Mapping[str, ScoreHistory], budgets: Sequence[float], *, quiet_ms: int = QUIET_MS
) -> list[BudgetCost]:
    """`spend` for several budgets, to compare them."""
    return [spend(histories, budget, quiet_ms=quiet_ms) for budget in budgets]


def _count(histories: Mapping[str, ScoreHistory], threshold: float, quiet_ms: int, enough: int) -> int:
    """Alerts over all series; stops counting where there are more than `enough`."""
    total = 0
    for history in histories.values():
        total += len(alert_times(history, threshold, quiet_ms))
        if total > enough:
            break
    return total

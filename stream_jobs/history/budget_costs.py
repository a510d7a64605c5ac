"""What budgets of several sizes would have cost on a history: how many alerts, when, in which series. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stream_jobs.alert_budget import WEEK_MS
from stream_jobs.history.candidates import Alert
from stream_jobs.history.report import moment
from stream_jobs.history.scoring import HistoryScorer

ALERTS_SHOWN = 20
SERIES_SHOWN = 3
SIZES = (1, 5, 10, 21, 50, 100)
"""The default budget among smaller and larger ones."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One budget. `alerts` in order of time, each of a series by its name."""

    a_week: int
    alerts: tuple[tuple[object, Alert], ...]

    @property
    def by_series(self) -> list[tuple[object, int]]:
        """Alerts of each series that had any, the most first."""
        counted = Counter(name for name, _ in self.alerts)
        return sorted(counted.items(), key=lambda item: (-item[1], str(item[0])))

    @property
    def most_in_a_week(self) -> int:
        """In any seven days."""
        times = [alert.time_ms for _, alert in self.alerts]
        return max((sum(start <= time < start + WEEK_MS for time in times) for start in times), default=0)


@dataclass(frozen=True, slots=True)
class Costs:
    """What was looked at, and what each budget would have cost."""

    source: str
    detector: str
    digest: str
    series: int
    rows: int
    weeks: float
    costs: tuple[Cost, ...]

    def as_json(self) -> dict[str, Any]:
        """For programs. Times in ms since 1970."""
        return {
            "source": self.source,
            "detector": self.detector,
            "configuration": self.digest,
            "series": self.series,
            "rows": self.rows,
            "weeks": self.weeks,
            "budgets": [
                {
                    "a_week": cost.a_week,
                    "alerts": len(cost.alerts),
                    "most_in_a_week": cost.most_in_a_week,
                    "by_series": [{"series": name, "alerts": count} for name, count in cost.by_series],
                    "when": [
                        {"series": name, "time_ms": one.time_ms, "severity": one.severity, "alarm": one.alarm}
                        for name, one in cost.alerts
                    ],
                }
                for cost in self.costs
            ],
        }

    def table(self) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
        """For people: a row a budget."""
        rows: list[tuple[object, ...]] = []
        for cost in self.costs:
            top = [f"{name} ({count:,})" for name, count in cost.by_series[:SERIES_SHOWN]]
            more = len(cost.by_series) - SERIES_SHOWN
            series = ", ".join(top) + (f" and {more:,} more" if more > 0 else "")
            rows.append((cost.a_week, len(cost.alerts), cost.most_in_a_week, len(cost.by_series), series))
        return ("budget a week", "alerts", "most in 7 days", "series", "the most"), rows

    def lines(self) -> list[str]:
        """For people: what was looked at, and the alerts of the largest budget that has few enough to be shown."""
        said = [
            f"{self.rows:,} rows of {self.series:,} series over {self.weeks:.2f} weeks, "
            f"{self.detector} {self.digest}: what its scores alone would have raised"
        ]
        shown = [cost for cost in self.costs if 0 < len(cost.alerts) <= ALERTS_SHOWN]
        if shown:
            said.append(f"with {shown[-1].a_week} a week:")
            said += [f"  {moment(one.time_ms)}  {name}  severity {one.severity:.2f}" for name, one in shown[-1].alerts]
        return said


def costs_of(scorer: HistoryScorer, sizes: Iterable[int], source: str, detector: str) -> Costs:
    """What budgets of these sizes would have cost, decided row after row from earlier ones alone."""
    names: Sequence[object] = list(scorer.series)
    candidates = scorer.candidates
    costs = [(size, candidates.alerts(size)) for size in sorted(set(sizes))]
    begin, end = candidates.first_ms, candidates.last_ms
    return Costs(
        source=source,
        detector=detector,
        digest=scorer.new_detector().digest(),
        series=len(names),
        rows=scorer.counts["rows"],
        weeks=0.0 if begin is None or end is None else (end - begin) / WEEK_MS,
        costs=tuple(Cost(size, tuple((names[one.series], one) for one in alerts)) for size, alerts in costs),
    )

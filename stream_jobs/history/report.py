"""What `inferwatch detect` says at its end: counts, the most anomalous series, the alerts, broken rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stream_jobs.history.candidates import Alert
from stream_jobs.history.reading import HistoryFile
from stream_jobs.history.scoring import HistoryScorer

WORST = 5
ALERTS_SHOWN = 20
EXAMPLES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Report:
    """One run over a file."""

    file: HistoryFile
    scorer: HistoryScorer
    detector: str
    digest: str
    seconds: float
    budget: int | None
    alerts: list[Alert]

    def as_json(self) -> dict[str, Any]:
        """For programs. Times in ms since 1970; rows of alerts from 0, as written; counters with their restarts."""
        counts, names = self.scorer.counts, list(self.scorer.series)
        return {
            "file": str(self.file.path),
            "detector": self.detector,
            "configuration": self.digest,
            "metrics": list(self.file.columns.metrics),
            "counters": self.file.restarts(),
            "series": len(names),
            "rows": counts["rows"],
            "scored": counts["scored"],
            "empty": {name: counts[name] for name in ("missing", "late", "beyond")},
            "broken": {
                "count": self.file.broken.count,
                "reasons": dict(self.file.broken.reasons.most_common()),
                "examples": self.file.broken.examples,
            },
            "seconds": round(self.seconds, 3),
            "worst": [
                {"series": name, "time_ms": int(one.time_ms), "alarm": one.alarm, "severity": one.severity}
                for name, one in self.scorer.worst(WORST)
                if one.alarm >= 0.0
            ],
            "budget": self.budget,
            "alerts": [
                {
                    "series": names[alert.series],
                    "time_ms": alert.time_ms,
                    "row": alert.row,
                    "alarm": alert.alarm,
                    "severity": alert.severity,
                    "score": alert.score,
                }
                for alert in self.alerts
            ],
        }

    def lines(self) -> list[str]:
        """For people."""
        counts, names = self.scorer.counts, list(self.scorer.series)
        rate = counts["rows"] / max(self.seconds, 1e-9)
        said = [
            f"{counts['rows']:,} rows of {len(names):,} series in {self.seconds:.1f} s ({rate:,.0f} a second), "
            f"{self.detector} {self.digest}"
        ]
        for name, words in (
            ("missing", "without a usable time or value"),
            ("late", "not later than the row before them of their series"),
            ("beyond", "of series beyond the most that are kept"),
        ):
            if counts[name]:
                said.append(f"no score: {counts[name]:,} rows {words}")
        said += [f"counter {name}: restarted {count:,} times" for name, count in self.file.restarts().items()]
        worst = [(name, one) for name, one in self.scorer.worst(WORST) if one.alarm > 0.0]
        if worst:
            said.append("most anomalous: " + ", ".join(f"{name} at {moment(one.time_ms)}" for name, one in worst))
        if self.budget is not None:
            said.append(f"{len(self.alerts):,} alerts with a budget of {self.budget} a week")
            said += [
                f"  {moment(alert.time_ms)}  {names[alert.series]}  row {alert.row + 1:,}, alarm {alert.alarm:.2f}"
                for alert in self.alerts[:ALERTS_SHOWN]
            ]
            if len(self.alerts) > ALERTS_SHOWN:
                said.append(f"  and {len(self.alerts) - ALERTS_SHOWN:,} more: --json has all")
        if self.file.broken.count:
            said.append(f"{self.file.broken.count:,} broken rows:")
            said += [f"  {example}" for example in self.file.broken.examples[:EXAMPLES_SHOWN]]
        return said


def moment(time_ms: float) -> str:
    """A time as people read it, in UTC; the number where no calendar has it."""
    try:
        return datetime.fromtimestamp(time_ms / 1000.0, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{time_ms:.0f} ms"

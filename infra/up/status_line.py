"""A run in one line, and how its figures are written for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from infra.up.supervision import ChildState
from infra.up.view import View

REASONS_SHOWN = 2


def status_line(view: View) -> str:
    """The run in one line."""
    parts = [f"up: {view.uptime_seconds:.0f} s", view.phase]
    s = view.snapshot
    if s is not None:
        parts += [
            f"requests {s.sent_per_second:.0f}/s",
            f"predictions {s.predictions_per_second:.0f}/s",
            f"rows {s.rows_per_second:.0f}/s",
            f"p50/p95/p99 {'/'.join(milliseconds(s.recent_ms[q], unit=False) for q in s.recent_ms)} ms",
            f"owed {s.account.owed}",
            f"dead letters {sum(s.dead_letters.values())}",
            *([f"unreadable {s.unreadable}"] if s.unreadable else []),
            f"anomalies {s.anomalies}",
            f"open alerts {len(s.open_alerts)}",
        ]
        parts += [f"lag {group} {lag}" for group, lag in s.lags.items()]
        parts += s.problems[:1]
    bad = [f"{row.name} {row.state}" for row in view.processes if row.state in (ChildState.WAITING, ChildState.FAILED)]
    return " | ".join(parts + bad)


def milliseconds(value: float | None, unit: bool = True) -> str:
    """A latency for people."""
    if value is None:
        return "-"
    return (f"{value:.0f}" if value >= 10 else f"{value:.1f}") + (" ms" if unit else "")


def dead_letters_in_words(reasons: Mapping[str, int]) -> str:
    """How many, and the most frequent reasons."""
    most = sorted(reasons.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{reason} {count:,}" for reason, count in most[:REASONS_SHOWN])
    more = f", {len(most) - REASONS_SHOWN} more reasons" if len(most) > REASONS_SHOWN else ""
    return f"{sum(reasons.values()):,}" + (f": {shown}{more}" if shown else "")

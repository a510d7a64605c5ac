"""The end of a run: one summary for programs or people, and what exit code it deserves. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.exit_codes import EXIT_INTERNAL, EXIT_TRY_AGAIN
from infra.up.view import Snapshot


@dataclass(frozen=True, slots=True)
class Summary:
    """A run that has ended. `seconds` is the time of its traffic. `drained`: nothing was under way any more.
    `traffic_asked`: requests were to be sent, so that books of nothing are no success."""

    seconds: float
    snapshot: Snapshot
    drained: bool
    restarts: Mapping[str, int]
    versions: Mapping[str, str]
    differences: Sequence[str]
    traffic_asked: bool

    @property
    def exit_code(self) -> int:
        """0 when the books balance. 75 when work was left at the deadline or nothing of what was asked for was sent, 70
        when something is lost or doubled."""
        account = self.snapshot.account
        if account.balanced and not self.sent_nothing:
            return 0
        return EXIT_TRY_AGAIN if not self.drained or account.sent == 0 else EXIT_INTERNAL

    @property
    def sent_nothing(self) -> bool:
        """Whether there was to be traffic and there was none."""
        return self.traffic_asked and self.snapshot.account.sent == 0

    def as_json(self) -> dict[str, Any]:
        """One object."""
        s = self.snapshot
        return {
            "seconds": round(self.seconds, 3),
            "rate": round(s.account.sent / self.seconds, 1) if self.seconds else 0.0,
            "books": s.account.as_json() | {"repeated_answers": s.account.repeats},
            "drained": self.drained,
            "sent_nothing": self.sent_nothing,
            "differences": list(self.differences),
            "latency_ms": {f"p{q * 100:g}": _rounded(ms) for q, ms in s.run_ms.items()},
            "first_prediction_seconds": _rounded(s.first_prediction_seconds),
            "dead_letters": dict(sorted(s.dead_letters.items())),
            "unreadable": s.unreadable,
            "anomalies": s.anomalies,
            "alerts": {
                "opened": s.alerts_opened,
                "resolved": s.alerts_resolved,
                "still_open": list(s.open_alerts),
            },
            "restarts": dict(self.restarts),
            "devices": list(s.devices),
            "models": list(s.models),
            "versions": dict(self.versions),
        }

    def as_text(self) -> str:
        """For people."""
        s, account = self.snapshot, self.snapshot.account
        latency = ", ".join(f"p{q * 100:g} {'-' if ms is None else f'{ms:.1f} ms'}" for q, ms in s.run_ms.items())
        first = s.first_prediction_seconds
        restarted = ", ".join(f"{name} {count}" for name, count in self.restarts.items() if count) or "none"
        lines = [
            f"traffic    {self.seconds:.1f} s, {account.sent / self.seconds if self.seconds else 0:.1f} requests/s",
            f"books      {'balanced' if account.balanced else 'NOT BALANCED'}: {books_in_words(account.as_json())}",
            f"latency    {latency}",
            f"first      {'no prediction' if first is None else f'prediction after {first:.1f} s'}",
            f"anomalies  {s.anomalies}; alerts opened {s.alerts_opened}, resolved {s.alerts_resolved}",
            f"restarts   {restarted}",
        ]
        if s.unreadable:
            lines.append(f"unreadable {s.unreadable} records on our topics are not what their topic carries")
        if self.sent_nothing:
            lines.append(
                "note       no request was sent, though traffic was asked for: its log says why (simulator.log)"
            )
        if not self.drained:
            lines.append(
                "note       work was left when the time to drain was over: try a longer --drain or a lower --rate"
            )
        lines += [f"difference {text}" for text in self.differences]
        return "\n".join(lines)


def books_in_words(books: Mapping[str, Any]) -> str:
    """The account in one line."""
    rows = books["table_rows"]
    return (
        f"sent {books['sent']} = answered {books['answered']} + failed {books['failed']} + shed {books['shed']}"
        f" + dead-lettered {books['dead_lettered']} + owed {books['owed']};"
        f" telemetry rows {books['telemetry_rows']}, table rows {'not known' if rows is None else rows}"
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)

"""How a run looks: a live picture in a terminal, else one plain line every few seconds on stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from infra.up.supervision import ChildState
from infra.up.view import ProcessRow, Snapshot, View

LINE_EVERY_SECONDS = 5.0
REDRAWS_PER_SECOND = 2
ALERTS_SHOWN = 5
REASONS_SHOWN = 2
STATE_STYLES = {
    ChildState.RUNNING: "green",
    ChildState.STARTING: "yellow",
    ChildState.WAITING: "red",
    ChildState.FAILED: "bold red",
}


class Display(Protocol):
    """Where a run is shown. Used by one thread."""

    def open(self) -> None:
        """Begin to show."""

    def say(self, text: str) -> None:
        """One sentence on something that just happened."""

    def show(self, view: View) -> None:
        """The newest picture. Called often; returns at once."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def display_for(stream: TextIO) -> Display:
    """The live picture for a terminal, plain lines for anything else."""
    return LiveDisplay(stream) if stream.isatty() else LineDisplay(stream)


class LineDisplay:
    """Plain lines."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._next_at = 0.0

    def open(self) -> None:
        """See `Display.open`."""

    def say(self, text: str) -> None:
        """See `Display.say`."""
        self._write(f"up: {text}")

    def show(self, view: View) -> None:
        """See `Display.show`."""
        if view.uptime_seconds >= self._next_at:
            self._next_at = view.uptime_seconds + LINE_EVERY_SECONDS
            self._write(status_line(view))

    def close(self) -> None:
        """See `Display.close`."""

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # whoever read it is gone; the run goes on


class LiveDisplay:
    """A picture of the run, redrawn in place."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._console = Console(file=stream)
        self._live = Live(
            console=self._console,
            refresh_per_second=REDRAWS_PER_SECOND,
            screen=self._console.is_terminal,
            vertical_overflow="crop",
        )

    def open(self) -> None:
        """See `Display.open`."""
        self._live.start()

    def say(self, text: str) -> None:
        """Shown with the next picture, among its events."""

    def show(self, view: View) -> None:
        """See `Display.show`."""
        self._live.update(picture(view))

    def close(self) -> None:
        """See `Display.close`."""
        self._live.stop()


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


def picture(view: View) -> Group:
    """The whole picture."""
    parts: list[Panel] = [Panel(_pipeline(view), title=f"inferwatch up - {view.phase}", title_align="left")]
    alerts = _alerts(view.snapshot)
    if alerts is not None:
        parts.append(Panel(alerts, title="open alerts", title_align="left", border_style="red"))
    parts.append(Panel(_processes(view.processes), title="processes", title_align="left"))
    if view.events:
        parts.append(Panel(Text("\n".join(view.events)), title="events", title_align="left"))
    parts.append(Panel(_where(view), title="where to look", title_align="left"))
    return Group(*parts)


def _pipeline(view: View) -> Table:
    table = Table.grid(padding=(0, 3))
    for _ in range(6):
        table.add_column()
    s = view.snapshot
    if s is None:
        table.add_row(f"{view.uptime_seconds:.0f} s", "waiting for the servers")
        return table
    account = s.account
    age = "" if s.oldest_owed_seconds is None else f", oldest {s.oldest_owed_seconds:.0f} s"
    rows = "-" if account.table_rows is None else f"{account.table_rows:,}"
    lags = ", ".join(f"{group} {lag:,}" for group, lag in s.lags.items()) or "-"
    latency = " / ".join(milliseconds(s.recent_ms[q], unit=False) for q in s.recent_ms)
    first = s.first_prediction_seconds
    for row in (
        (
            "requests",
            f"{s.sent_per_second:,.0f}/s",
            "sent",
            f"{account.sent:,}",
            "uptime",
            f"{view.uptime_seconds:.0f} s",
        ),
        (
            "predictions",
            f"{s.predictions_per_second:,.0f}/s",
            "answered",
            f"{account.answered:,}",
            "first prediction",
            "-" if first is None else f"after {first:.1f} s",
        ),
        ("table rows", f"{s.rows_per_second:,.0f}/s", "stored answers", rows, "device", ", ".join(s.devices) or "-"),
        (
            "latency p50/p95/p99",
            f"{latency} ms",
            "failed, shed",
            f"{account.failed:,}, {account.shed:,}",
            "model",
            ", ".join(s.models) or "-",
        ),
        (
            "lag",
            lags,
            "owed",
            Text(f"{account.owed:,}{age}", style=_owed_style(s)),
            "anomalies",
            f"{s.anomalies:,}",
        ),
        (
            "dead letters",
            dead_letters_in_words(s.dead_letters),
            "unreadable",
            Text(f"{s.unreadable:,}", style="yellow" if s.unreadable else ""),
            "alerts",
            f"{s.alerts_opened} opened, {s.alerts_resolved} resolved",
        ),
    ):
        table.add_row(*_dim_names(row))
    for problem in s.problems:
        table.add_row(Text("problem", style="red"), problem[:120])
    return table


def _dim_names(row: tuple[str | Text, ...]) -> list[Text]:
    """Names and values in turn: the names step back."""
    cells = [Text(cell) if isinstance(cell, str) else cell for cell in row]
    for name in cells[::2]:
        name.stylize("dim")
    return cells


def dead_letters_in_words(reasons: Mapping[str, int]) -> str:
    """How many, and the most frequent reasons."""
    most = sorted(reasons.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{reason} {count:,}" for reason, count in most[:REASONS_SHOWN])
    more = f", {len(most) - REASONS_SHOWN} more reasons" if len(most) > REASONS_SHOWN else ""
    return f"{sum(reasons.values()):,}" + (f": {shown}{more}" if shown else "")


def _owed_style(snapshot: Snapshot) -> str:
    age = snapshot.oldest_owed_seconds
    return "red" if age is not None and age > 30 else "yellow" if age is not None and age > 5 else ""


def _alerts(snapshot: Snapshot | None) -> Text | None:
    if snapshot is None or not snapshot.open_alerts:
        return None
    shown = snapshot.open_alerts[-ALERTS_SHOWN:]
    more = len(snapshot.open_alerts) - len(shown)
    return Text("\n".join([*shown, *([f"and {more} more"] if more else [])]))


def _processes(rows: tuple[ProcessRow, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("process", "state"):
        table.add_column(name)
    for name in ("pid", "restarts", "cpu", "memory"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row.name,
            Text(row.state.value, style=STATE_STYLES.get(row.state, "")),
            "-" if row.pid is None else str(row.pid),
            str(row.restarts),
            "-" if row.cpu_percent is None else f"{row.cpu_percent:.0f} %",
            "-" if row.memory_bytes is None else f"{row.memory_bytes / 1e6:,.0f} MB",
        )
    return table


def _where(view: View) -> Table:
    table = Table.grid(padding=(0, 3))
    for name, place in view.where:
        table.add_row(Text(name, style="dim"), Text(place, overflow="fold"))
    return table

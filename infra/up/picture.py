"""The picture of a run in a terminal: figures and where to look always, the rest as far as the height goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.rule import Rule
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from infra.up.status_line import dead_letters_in_words, milliseconds, status_line
from infra.up.supervision import ChildState
from infra.up.view import ProcessRow, Snapshot, View
from infra.up.where_to_look import ESSENTIAL

WIDE_COLUMNS = 110
"""From this width on the figures stand in three columns."""
STATE_STYLES = {
    ChildState.RUNNING: "green",
    ChildState.STARTING: "yellow",
    ChildState.WAITING: "red",
    ChildState.FAILED: "bold red",
}
Pair = tuple[str, str | Text]


@dataclass(frozen=True, slots=True)
class Detail:
    """How much is shown. `boxed`: frames around the parts and a table of processes, which takes more lines."""

    boxed: bool
    lines: int
    """Most alerts, events and problems, of each."""
    places: int


DETAILS = (
    Detail(boxed=True, lines=5, places=99),
    Detail(boxed=True, lines=2, places=99),
    Detail(boxed=False, lines=5, places=99),
    Detail(boxed=False, lines=3, places=ESSENTIAL),
    Detail(boxed=False, lines=2, places=ESSENTIAL),
    Detail(boxed=False, lines=1, places=ESSENTIAL),
    Detail(boxed=False, lines=0, places=ESSENTIAL),
)
"""From the most to the least: the first that fits is shown."""


class Picture:
    """A view as something that rich draws, in as much detail as fits the height of the terminal."""

    def __init__(self, view: View) -> None:
        self._view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Segments of the most detailed picture that fits; of the status line and the places where none does."""
        lines: list[list[Segment]] = []
        for parts in self._choices(options.max_width):
            lines = console.render_lines(Group(*parts), options.reset_height(), pad=False)
            if len(lines) <= options.size.height:  # not options.height: within a live screen it is unknown
                break
        for line in lines:
            yield from line
            yield Segment.line()

    def _choices(self, width: int) -> Iterator[list[RenderableType]]:
        for detail in DETAILS:
            parts = boxed(self._view, detail, width) if detail.boxed else compact(self._view, detail, width)
            # Never boxed: in a frame the first query would not fit on one line of 80 columns.
            yield [*parts, Rule("where to look", align="left", style="dim"), places(self._view, detail.places)]
        yield [Text(status_line(self._view)), places(self._view, ESSENTIAL)]


def boxed(view: View, detail: Detail, width: int) -> list[RenderableType]:
    """The parts in frames."""
    parts: list[RenderableType] = [_box(figures(view, detail, width), title(view))]
    alerts = newest_alerts(view.snapshot, detail.lines)
    if alerts:
        parts.append(_box(Text("\n".join(alerts)), "open alerts", "red"))
    parts.append(_box(processes(view.processes), "processes"))
    if view.events:
        parts.append(_box(Text("\n".join(newest(view.events, detail.lines))), "events"))
    return parts


def compact(view: View, detail: Detail, width: int) -> list[RenderableType]:
    """The parts below one another, alerts and events on a line each."""
    rows = [("alert", Text(alert, style="red")) for alert in newest_alerts(view.snapshot, detail.lines)]
    rows.append(("processes", processes_in_words(view.processes)))
    rows += [("event", Text(event.strip())) for event in newest(view.events, detail.lines)]
    return [
        Rule(title(view), align="left", style="dim"),
        figures(view, detail, width),
        _columns([(name, _on_one_line(text)) for name, text in rows]),
    ]


def title(view: View) -> str:
    """The first words."""
    return f"inferwatch up - {view.phase}"


def figures(view: View, detail: Detail, width: int) -> RenderableType:
    """Counts, rates and latencies: in three columns, or in two with the long ones below."""
    s = view.snapshot
    if s is None:
        return Text(f"{view.uptime_seconds:.0f} s   waiting for the servers")
    rates, counts, about = _rates(s), _counts(s), _about(view, s)
    problems = [Text(one, style="red") for one in s.problems[: max(1, detail.lines)]]
    below: list[Pair] = [*_long(s), *(("problem", _on_one_line(one)) for one in problems)]
    if width >= WIDE_COLUMNS:
        return Group(_columns(rates + about[:1], counts[:5], counts[5:] + about[1:]), _columns(below))
    return Group(_columns(rates + about[:3], counts + about[3:]), _columns(below))


def _rates(s: Snapshot) -> list[Pair]:
    latency = " / ".join(milliseconds(s.recent_ms[q], unit=False) for q in s.recent_ms)
    return [
        ("requests", f"{s.sent_per_second:,.0f}/s"),
        ("predictions", f"{s.predictions_per_second:,.0f}/s"),
        ("table rows", f"{s.rows_per_second:,.0f}/s"),
        ("latency p50/p95/p99", f"{latency} ms"),
    ]


def _counts(s: Snapshot) -> list[Pair]:
    account = s.account
    age = "" if s.oldest_owed_seconds is None else f", oldest {s.oldest_owed_seconds:.0f} s"
    return [
        ("sent", f"{account.sent:,}"),
        ("answered", f"{account.answered:,}"),
        ("stored answers", "-" if account.table_rows is None else f"{account.table_rows:,}"),
        ("failed, shed", f"{account.failed:,}, {account.shed:,}"),
        ("owed", Text(f"{account.owed:,}{age}", style=_owed_style(s))),
        ("unreadable", Text(f"{s.unreadable:,}", style="yellow" if s.unreadable else "")),
    ]


def _about(view: View, s: Snapshot) -> list[Pair]:
    first = s.first_prediction_seconds
    return [
        ("anomalies", f"{s.anomalies:,}"),
        ("alerts", f"{s.alerts_opened} opened, {s.alerts_resolved} resolved"),
        ("uptime", f"{view.uptime_seconds:.0f} s"),
        ("first prediction", "-" if first is None else f"after {first:.1f} s"),
    ]


def _long(s: Snapshot) -> list[Pair]:
    return [
        ("lag", ", ".join(f"{group} {lag:,}" for group, lag in s.lags.items()) or "-"),
        ("dead letters", dead_letters_in_words(s.dead_letters)),
        ("model", f"{', '.join(s.models) or '-'} on {', '.join(s.devices) or '-'}"),
    ]


def _owed_style(snapshot: Snapshot) -> str:
    age = snapshot.oldest_owed_seconds
    return "red" if age is not None and age > 30 else "yellow" if age is not None and age > 5 else ""


def newest_alerts(snapshot: Snapshot | None, most: int) -> list[str]:
    """The newest open alerts, oldest first, and how many more there are."""
    alerts = () if snapshot is None else snapshot.open_alerts
    shown = newest(alerts, most)
    more = len(alerts) - len(shown)
    return [*shown, *([f"and {more} more"] if more else [])]


def newest(lines: tuple[str, ...], most: int) -> list[str]:
    """The last of them, at most so many."""
    return list(lines[max(0, len(lines) - most) :])


def processes(rows: tuple[ProcessRow, ...]) -> Table:
    """A line for each process."""
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


def processes_in_words(rows: tuple[ProcessRow, ...]) -> Text:
    """How many run, and each that does not or was started again."""
    running = sum(row.state is ChildState.RUNNING for row in rows)
    text = Text(f"{running} of {len(rows)} running")
    for row in rows:
        if row.state is not ChildState.RUNNING or row.restarts:
            restarts = f" ({row.restarts} restarts)" if row.restarts else ""
            text.append(f", {row.name} ").append(row.state.value, STATE_STYLES.get(row.state, "")).append(restarts)
    return text


def places(view: View, most: int) -> Table:
    """The first places, whole: they are there to be copied."""
    table = Table.grid(padding=(0, 2))
    for name, place in view.where[:most]:
        table.add_row(Text(name, style="dim"), Text(place, overflow="fold"))
    return table


def _columns(*columns: list[Pair]) -> Table:
    """Columns of names and values side by side, the names stepped back."""
    table = Table.grid(padding=(0, 3))
    for row in zip_longest(*columns, fillvalue=("", "")):
        cells = [(Text(name, style="dim"), value) for name, value in row]
        table.add_row(*(cell for pair in cells for cell in pair))
    return table


def _on_one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _box(content: RenderableType, name: str, style: str = "none") -> Panel:
    return Panel(content, title=name, title_align="left", border_style=style)

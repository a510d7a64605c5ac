"""Windows of the past that sources bring one after the other, once their clocks went back: none is stored in the place
of another."""

from collections import Counter

import pytest

from schemas.windows import PartialWindowsClosed, SeriesKey
from stream_jobs.open_windows import OpenWindows
from stream_jobs.window_names import NAMES_MAX, RENAMED_MAX, RENAMED_MS, WindowNames
from stream_jobs.window_rows import WindowId
from tests.telemetry_events import T0
from tests.unit.stream_jobs.test_window_stage import Reader, column, series

OTHER = SeriesKey(model="mini", version="2", scenario="search")
PAST = (-2_987_998, -2_987_000)


def said(source, bounds, through, offset, *found, chunk=0, chunks=1):
    """A partial by times since T0; `offset` is that of the last record in it."""
    return PartialWindowsClosed(
        source_topic_id="telemetry-1",
        source_partition=source,
        window_start_ms=T0 + bounds[0],
        window_end_ms=T0 + bounds[1],
        closed_through_ms=T0 + through,
        first_offset=offset,
        next_offset=offset + 1,
        chunk=chunk,
        chunks=chunks,
        series=list(found),
    )


class Table:
    """What the table of windows keeps of a stage's rows: of each name the last revision."""

    def __init__(self, **values):
        self.values, self.read = values, Reader(**values)
        self.sent, self._rows, self._offsets = 0, {}, Counter()

    def __call__(self, source, bounds, through, *found, chunk=0, chunks=1, at=None):
        """A source says that. `at`: the append time since T0, that of the window's end if it is None."""
        self._offsets[source] += chunk == 0
        self.sent += sum(one.answered for one in found)
        message = said(source, bounds, through, self._offsets[source], *found, chunk=chunk, chunks=chunks)
        effects = self.read(message, at_ms=T0 + (max(through, 0) if at is None else at))
        names = ("window_start", "window_end", "scenario", "model", "model_version")
        keys = list(zip(*(column(effects, name) for name in names), strict=True))
        for key, revision, requests in zip(keys, column(effects, "revision"), column(effects, "requests"), strict=True):
            assert revision > self._rows.get(key, (-1, 0))[0], f"in the place of another: {key}"
            self._rows[key] = revision, requests
        return [(start - T0, end - T0) for start, end, *_ in keys]

    def restart(self):
        """Go on from the state alone."""
        pages, self.read = self.read.stage.all_pages(), Reader(**self.values)
        self.read.stage.restore(pages, sum(self._offsets.values()))

    def stored(self):
        """Requests of all rows, once all sources have passed everything."""
        for source in range(2):
            self(source, (10**8, 10**8 + 10_000), 10**8 + 10_000)
        assert self.read.stage.late_dropped == 0
        return sum(requests for _, requests in self._rows.values())


@pytest.fixture(params=[False, True], ids=["at once", "over restarts"])
def between(request):
    return Table.restart if request.param else lambda table: None


def test_clocks_that_went_back_and_forth_within_one_window_leave_both_sources_shares(between):
    table = Table()
    table(0, (0, 10_000), 10_000, series(answered=1))
    assert table(1, (0, 10_000), 10_000, series(answered=2)) == [(0, 10_000)]
    first = table(0, PAST, 15_000, series(answered=3))
    between(table)
    assert table(1, PAST, 15_000, series(answered=5)) != first
    assert table.stored() == table.sent == 11


def test_so_do_they_where_a_clock_had_gone_back_before(between):
    table = Table()
    for source in range(2):
        table(source, (0, 10_000), 10_000, series(answered=2))
    table(0, (-49_999, -40_000), -40_000, series(answered=7))
    between(table)
    table(0, (10_000, 20_000), 20_000, series(answered=4))
    first = table(0, PAST, 25_000, series(answered=3))
    between(table)
    assert table(1, PAST, 25_000, series(answered=5)) != first
    assert table.stored() == table.sent == 23


def test_so_do_they_in_the_last_window_whose_end_was_said_already(between):
    table, hour = Table(window_seconds=3_600, idle_seconds=7_200), 3_600_000
    for source in range(2):
        table(source, (0, hour), hour, series(answered=2))
    first = table(0, (1, hour), 2 * hour, series(answered=3))
    between(table)
    assert table(1, (1, hour), 2 * hour, series(answered=5)) != first
    assert table.stored() == table.sent == 12


def test_sources_that_went_back_share_a_window_that_is_late_still():
    table = Table()
    for source in range(2):
        table(source, (0, 10_000), 10_000, series(answered=2))
    table(1, (-2_999_999, -2_990_000), -2_990_000, series(answered=4))
    assert table(0, PAST, PAST[1], series(answered=3)) == table(1, PAST, PAST[1], series(answered=5)) != []
    assert table.stored() == table.sent == 16


def test_a_window_that_is_open_gets_its_other_chunks_though_one_of_the_same_end_is_closed(between):
    table = Table(allowed_lateness_seconds=10)
    table(1, (0, 10_000), 10_000, series(answered=1))
    assert table(1, (1, 10_000), 20_000, series(answered=2), chunks=2) == [(0, 10_000)]
    between(table)
    assert table(1, (1, 10_000), 20_000, series(answered=3, key=OTHER), chunk=1, chunks=2) == []
    assert table(1, (20_000, 30_000), 40_000) == [(1, 10_000)] * 2
    table(0, (1, 10_000), 10_000, series(answered=4, key=OTHER))
    assert table.stored() == table.sent == 10


def test_one_more_chunk_of_a_window_is_no_return_of_the_clock():
    windows = OpenWindows(2, 60_000, 30_000)

    def went_back(offset, bounds):
        for chunk in range(3):
            windows.take(said(0, bounds, bounds[1], offset, series(), chunk=chunk, chunks=3), T0 + bounds[1])
        ((*_, first),) = [row for row in windows.progress() if row[0] == "topic"]
        return first > 0

    assert not went_back(1, (0, 10_000))
    assert not went_back(2, (10_000, 20_000))
    assert went_back(3, (10_001, 20_000))


def test_names_remembered_are_bounded_and_those_forgotten_are_not_given_again():
    table, bounds = Table(), [(PAST[0] - 1_000 * n, PAST[1] - 1_000 * n) for n in range(RENAMED_MAX + 100)]
    for source in range(2):
        table(source, (0, 10_000), 10_000)
    for one in bounds:
        table(0, one, 15_000, series(answered=1))
    rows = table.read.stage._windows.progress()
    assert sum(kind == "renamed" for kind, *_ in rows) == RENAMED_MAX
    table.restart()
    for one in bounds:
        table(1, one, 15_000, series(answered=1))
    assert table.stored() == table.sent == 2 * len(bounds)


def test_thirty_names_differ_and_lie_within_the_shortest_window():
    names = WindowNames("t", 10_000, 1)
    found = {names.named(29, 1_000, lambda window: False) for _ in range(NAMES_MAX)}
    assert len(found) == NAMES_MAX
    assert all(29 < one.start_ms < one.end_ms == 1_000 for one in found)
    assert names.named(5, 6, lambda window: False) == WindowId("t", 5, 6)


def test_no_window_gets_another_name_while_none_can_be_stored_under_its_own():
    def known(window):
        return window.start_ms == 500

    assert WindowNames("t", 10_000).named(0, 1_000, lambda window: False) == WindowId("t", 0, 1_000)
    names = WindowNames("t", 10_000, 1)
    assert names.named(10_000, 11_000, known) == WindowId("t", 10_000, 11_000)
    assert names.named(500, 1_000, known) == WindowId("t", 500, 1_000)
    for _ in range(2):
        names.went_back()
    assert names.named(0, 1_000, known) == WindowId("t", 2 * RENAMED_MS, 1_000)


def test_a_state_of_before_is_taken_over():
    for more, counts in ([], (T0, 0)), ([T0 + 5, 3], (T0 + 5, 3)):
        windows = OpenWindows(2, 60_000, 30_000)
        windows.restore([["dropped", "", 0], ["clock", "", T0, 0], ["topic", "t", T0, 0, *more]], {})
        assert windows.progress()[2:] == [["topic", "t", T0, 0, *counts]]


@pytest.mark.parametrize("more", [[T0], [T0, 1, 2]])
def test_a_topic_s_state_that_was_cut_or_has_more_is_refused(more):
    with pytest.raises(ValueError, match="values to unpack"):
        OpenWindows(2, 60_000, 30_000).restore([["topic", "t", T0, 0, *more]], {})


def test_one_more_message_of_a_window_is_no_clock_that_went_back_for_a_source_of_a_state_of_before():
    """Which does not say what the source's last message was."""
    windows = OpenWindows(2, 60_000, 30_000)
    source = ["source", "telemetry-1", 0, T0 + 1_000, 0, 0]
    windows.restore([["clock", "", T0, 0], ["topic", "telemetry-1", 0, 0], source], {})
    windows.take(said(0, (0, 1_000), 1_000, 7, chunk=1, chunks=2), T0 + 1_000)
    assert ["topic", "telemetry-1", 0, 0, 0, 0] in windows.progress()
    windows.take(said(0, (-5_000, -4_000), -4_000, 9), T0 + 1_000)
    assert ["topic", "telemetry-1", 0, 0, 0, 1] in windows.progress()


def test_renamed_windows_are_in_the_state_the_last_last():
    names = WindowNames("t", 10_000, 1)
    for start_ms in (0, 1_000, 0):
        names.named(start_ms, 2_000, lambda window: False)
    assert names.entries() == [[1_000, 2_000, 1], [0, 2_000, 2]]
    again = WindowNames("t", *names.numbers())
    for entry in names.entries():
        again.restore(entry)
    assert again.entries() == names.entries()
    assert again.named(0, 2_000, lambda window: False) == names.named(0, 2_000, lambda window: False)

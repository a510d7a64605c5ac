"""The pure parts of the proof of counts: spans, comparison, naming."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infra.audit import told as told_module
from infra.audit.findings import RANGES_MAX, Findings, Kind
from infra.audit.rows import Compared, Due, Seen, compare
from infra.audit.told import Span, Told


def ints(*values):
    return np.array(values, dtype=np.int64)


def prints(values):
    return np.array(values, dtype=np.uint64)


def span_of(told, first=100):
    """`told`: for each offset from `first` on the telemetry offset, or -1. Fingerprints are offset x 10."""
    offsets = np.arange(first, first + len(told))
    return Span(first, ints(*told), prints(offsets * 10), offsets + 1_000)


def seen(*rows):
    """Rows as (offset, telemetry offset), with what telemetry tells of them."""
    offsets = ints(*(row[0] for row in rows))
    return Seen(offsets, ints(*(row[1] for row in rows)), prints(offsets * 10), offsets + 1_000)


def judged(span, rows, due=None, refused=None):
    findings, counts = Findings(), Compared()
    compare(3, span, rows, due or Due(0, 50, 60, whole=True), refused or {}, findings, counts)
    return {(one.kind, tuple(one.ranges)) for one in findings.all()}, counts


def test_rows_that_are_as_told_agree():
    found, counts = judged(span_of([7, 7, 8]), seen((100, 7), (101, 7), (102, 8)))
    assert found == set()
    assert counts.matched == 3


def test_each_difference_has_its_kind():
    span = span_of([7, 7, 8, -1, 9, 55, -1])
    rows = seen((100, 7), (100, 7), (102, 9), (103, 30))
    found, counts = judged(span, rows)
    assert found == {
        (Kind.DOUBLED, ((100, 101),)),
        (Kind.ALTERED, ((102, 103),)),
        (Kind.EXTRA, ((103, 104),)),
        (Kind.MISSING, ((101, 102), (104, 105))),
    }
    assert (counts.matched, counts.under_way, counts.owed, counts.owed_from) == (1, 1, 1, 106)


def test_content_and_time_count():
    span, rows = span_of([7, 7, 7]), seen((100, 7), (101, 7), (102, 7))
    rows.prints[0] += 1
    rows.served_ms[1] += 1
    assert judged(span, rows)[0] == {(Kind.ALTERED, ((100, 102),))}
    # What the log's time was before the first record read is not known: a row may be later, never earlier.
    rows.served_ms[2] -= 1
    partly = Due(0, 50, 60, whole=False)
    assert judged(span, rows, partly)[0] == {(Kind.ALTERED, ((100, 101), (102, 103)))}


def test_rows_of_telemetry_outside_the_range_are_not_judged():
    due = Due(5, 50, 60, whole=False)
    found, counts = judged(span_of([7, 7, -1, -1]), seen((100, 2), (101, 7), (102, 3), (103, 60)), due)
    assert found == set()
    assert (counts.matched, counts.elsewhere, counts.owed) == (1, 3, 0)
    # But a row of a later word on what was told in the range is not the first.
    assert judged(span_of([7]), seen((100, 61)), due)[0] == {(Kind.ALTERED, ((100, 101),))}


def test_a_dead_letter_explains_no_more_rows_than_it_says():
    span = span_of([7, 7, 7, 8])
    assert judged(span, seen((100, 7), (103, 8)), refused={7: 2}) == (set(), Compared(matched=2, dead_letters=2))
    assert judged(span, seen((100, 7), (103, 8)), refused={7: 1})[0] == {(Kind.MISSING, ((101, 103),))}
    assert judged(span, seen((100, 7)), refused={7: 2})[0] == {(Kind.MISSING, ((103, 104),))}


def test_many_differences_are_counted_in_full_and_named_in_part():
    findings = Findings()
    findings.add(Kind.MISSING, 1, range(0, 200, 2))
    findings.add(Kind.MISSING, 1, [200, 201])
    (one,) = findings.all()
    assert one.count == 102
    assert len(one.ranges) == RANGES_MAX
    assert str(one).startswith("partition 1: 102 offsets told by telemetry, without a row: 0, 2, 4, ")
    assert str(one).endswith(f"38 and {102 - RANGES_MAX} more")
    assert findings.counts()["missing"] == 102
    assert findings.counts()["extra"] == 0


def test_adjacent_ranges_are_one():
    findings = Findings()
    findings.add(Kind.EXTRA, 0, [5, 6])
    findings.add(Kind.EXTRA, 0, [7])
    assert str(findings.all()[0]) == "partition 0: 3 offsets with a row that no telemetry tells: 5-7"


events = st.lists(st.tuples(st.sets(st.integers(0, 120), min_size=1, max_size=20), st.integers(0, 2**40)), max_size=40)


@given(events, st.integers(0, 40), st.integers(0, 130), st.integers(4, 64))
def test_the_first_word_on_each_offset_counts_whatever_the_spans(found, start, end, span_size):
    first: dict[int, tuple[int, int]] = {}
    told = Told(start, end)
    spans, size = [], told_module.SPAN
    told_module.SPAN = span_size
    try:
        for at, (offsets, content) in enumerate(found):
            rising = sorted(offsets)
            for offset in rising:
                if start <= offset < end:
                    first.setdefault(offset, (at, content))
            spans += told.add(ints(*rising), prints([content] * len(rising)), at, at + 5)
        spans += told.rest()
    finally:
        told_module.SPAN = size
    seen_first = {
        span.first + i: (int(at), int(span.prints[i]))
        for span in spans
        for i, at in enumerate(span.told_at.tolist())
        if at >= 0
    }
    covered = [offset for span in spans for offset in range(span.first, span.after)]
    assert covered == list(range(start, max(start, end)))
    # What comes later than two spans is not compared, and is said: nothing is lost without a word.
    assert seen_first.keys() | set(told.too_late) == first.keys()
    assert {offset: first[offset] for offset in seen_first} == seen_first
    inside = sum(len([o for o in offsets if start <= o < end]) for offsets, _ in found)
    assert inside == len(first) + told.repeats

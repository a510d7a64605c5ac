"""The offset set is a set: against Python's own, in any order, with repeats, holes and restarts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.offset_set import PAGE_OFFSETS, OffsetSet

OFFSETS = st.one_of(
    st.integers(0, 60),
    st.integers(PAGE_OFFSETS - 20, PAGE_OFFSETS + 20),
    st.integers(0, 5 * PAGE_OFFSETS),
)
RUNS = st.builds(lambda a, n: list(range(a, a + n)), OFFSETS, st.integers(1, 2 * PAGE_OFFSETS))
BATCHES = st.lists(st.one_of(st.lists(OFFSETS, max_size=40), RUNS), max_size=12)


@settings(deadline=None, max_examples=150)
@given(start=st.integers(0, 2 * PAGE_OFFSETS), batches=BATCHES, restart=st.booleans())
def test_new_is_what_a_set_says(start: int, batches: list[list[int]], restart: bool) -> None:
    ours, theirs = OffsetSet(start), set(range(start))
    for batch in batches:
        expected = []
        for offset in batch:
            expected.append(offset not in theirs)
            theirs.add(offset)
        assert ours.add(batch).tolist() == expected
        if restart:
            ours = OffsetSet.from_bytes(ours.to_bytes())
    assert ours.added == len(theirs) - start
    assert all((offset in ours) == (offset in theirs) for offset in range(0, 5 * PAGE_OFFSETS, 97))
    top = 6 * PAGE_OFFSETS
    missing = {offset for first, end in ours.missing(top, limit=10**6) for offset in range(first, end)}
    assert missing == set(range(top)) - theirs


@settings(deadline=None, max_examples=100)
@given(batches=BATCHES, below=st.integers(0, 5 * PAGE_OFFSETS))
def test_forgetting_counts_as_seen(batches: list[list[int]], below: int) -> None:
    ours, theirs = OffsetSet(), set()
    for batch in batches:
        ours.add(batch)
        theirs.update(batch)
    assert ours.forget_below(below) == len(set(range(below)) - theirs)
    theirs.update(range(below))
    probe = list(range(0, 6 * PAGE_OFFSETS, 31))
    assert ours.add(probe).tolist() == [offset not in theirs for offset in probe]


def test_a_hole_that_never_fills_costs_one_page() -> None:
    seen = OffsetSet()
    seen.add(np.arange(1, 40 * PAGE_OFFSETS))
    assert seen.watermark == 0
    assert len(seen.to_bytes()) < 2_000
    assert seen.missing(40 * PAGE_OFFSETS) == [(0, 1)]
    assert seen.add([0]).tolist() == [True]
    assert seen.watermark == 40 * PAGE_OFFSETS


def test_what_is_given_up_for_a_bound_is_counted() -> None:
    seen = OffsetSet()
    seen.add([number * PAGE_OFFSETS + 7 for number in range(5)])
    assert seen.bound(5) == 0
    assert seen.bound(3) == 2 * PAGE_OFFSETS - 2
    assert seen.watermark == 2 * PAGE_OFFSETS


def test_the_first_of_a_repeated_offset_is_new() -> None:
    assert OffsetSet().add([3, 3, 1]).tolist() == [True, False, True]


@pytest.mark.parametrize("raw", [b"", b"x", OffsetSet(5).to_bytes()[:-1], OffsetSet(5).to_bytes() + b"x"])
def test_broken_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not a set of offsets"):
        OffsetSet.from_bytes(raw)

"""The books against a plain count, whatever is said in whatever order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infra.offset_set import PAGE_OFFSETS
from infra.up.books import Books, Fate
from infra.up.outcomes import CODES, Comparison, FirstWords, codes_of
from infra.up.ranges import without

FATES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 30), st.sampled_from(["answered", "failed", "shed", "dead_lettered"])),
    max_size=60,
)


@given(said=FATES, told=FATES, starts=st.tuples(st.integers(0, 10), st.integers(0, 10)), end=st.integers(31, 35))
def test_the_first_word_counts_and_the_sum_is_what_was_sent(said, told, starts, end):
    words = FirstWords()
    books = Books("c", "t", dict(enumerate(starts)), heard=words.take)
    books.settle([Fate(*one) for one in said])
    books.observe([Fate(*one) for one in told])
    first, seen = first_words(said, starts), first_words(told, starts)
    account = books.account({0: end, 1: end}, None)
    outcomes = list(first.values())
    assert account.sent == 2 * end - sum(starts)
    assert account.answered == outcomes.count("answered")
    assert account.settled == len(outcomes)
    assert account.owed == account.sent - len(outcomes)
    assert account.untold == len(first.keys() ^ seen.keys())
    unlike = {n: (first[n], seen[n]) for n in first.keys() & seen.keys() if first[n] != seen[n]}
    assert account.unlike == len(unlike)
    named = {(number, n): kind for number in (0, 1) for kind, _, offsets in books.unlike(number) for n in offsets}
    assert named == unlike
    for partition, start in enumerate(starts):
        kept = words.between(partition, start, end).tolist()
        assert kept == [CODES.get(first.get((partition, n), ""), 0) for n in range(start, end)]
    same = {n: seen.get(n) for n in first} == first and len(first) == len(seen)
    assert account.agrees_in_kafka == (account.owed == 0 and same)


def first_words(told, starts):
    found: dict[tuple[int, int], str] = {}
    for partition, offset, outcome in told:
        if offset >= starts[partition]:
            found.setdefault((partition, offset), outcome)
    return found


def test_in_whatever_pieces_two_sides_tell_the_same_offsets_are_named_and_nothing_is_kept():
    rng = np.random.default_rng(11)
    end = 3 * PAGE_OFFSETS + 77
    sides = [rng.integers(1, 5, end).astype(np.uint8) for _ in range(2)]
    sides[1][rng.random(end) < 0.99] = 0
    sides[1] = np.where(sides[1] == 0, sides[0], sides[1])
    compared, words = Comparison(), FirstWords()
    pieces = [(side, piece) for side in (0, 1) for piece in np.array_split(rng.permutation(end), 50)]
    for at in rng.permutation(len(pieces)):
        side, piece = pieces[at]
        (compared.first, compared.second)[side](piece, sides[side][piece])
        if side == 0:
            words.take(3, piece, sides[0][piece])
    assert compared.waiting == 0
    assert compared._pages == {}
    named = sorted(n for _, _, offsets in compared.unlike for n in offsets)
    assert named == np.flatnonzero(sides[0] != sides[1]).tolist()
    assert len(named) > 100
    for first, after in ((0, end), (5, 5), (PAGE_OFFSETS - 3, PAGE_OFFSETS + 3), (100, end)):
        assert words.between(3, first, after).tolist() == sides[0][first:after].tolist()
    assert not words.between(4, 0, 9).any()


def test_outcomes_of_full_pages_are_packed():
    words = FirstWords()
    outcomes = np.full(PAGE_OFFSETS, CODES["answered"], dtype=np.uint8)
    outcomes[::100] = codes_of(["dead_lettered"])[0]
    words.take(0, np.arange(PAGE_OFFSETS), outcomes)
    assert words._pages == {}
    assert sum(map(len, words._full.values())) < 400


@given(ours=st.sets(st.integers(0, 40)), theirs=st.sets(st.integers(0, 40)))
def test_ranges_without_others_are_the_difference_of_sets(ours, theirs):
    found = without(ranges(ours), ranges(theirs))
    assert {n for first, after in found for n in range(first, after)} == ours - theirs


def ranges(numbers: set[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found

"""Where the packed encoder's tokens attend: every token at one place, few groups, little padding."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inference_workers.engines.places import GROUPS_MAX, MERGED_GROUPS_MAX, groups_of, places_of, rows_multiple

SCORES = 500
LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=60)


def packed(lengths):
    lengths = np.array(lengths, np.int32)
    return lengths, (np.cumsum(lengths) - lengths).astype(np.int32)


@given(LENGTHS, st.integers(0, 15), st.sampled_from([None, SCORES]))
def test_every_token_is_at_one_place_of_its_own_input(lengths, fill, scores):
    lengths, starts = packed(lengths)
    rows = int(lengths.sum()) + fill
    found = places_of(lengths, starts, rows, scores=scores)
    assert sum(count for _, count, *_ in found.groups) == len(lengths)
    place, shown = 0, []
    for begin, count, longest, even in found.groups:
        assert begin == place, "groups lie one after the other"
        members = lengths[len(shown) : len(shown) + count]
        assert longest == max(members)
        assert even == all(members == longest)
        shown += [(place + longest * i, length) for i, length in enumerate(members)]
        place += longest * count
    if found.padding is None:
        assert all(even for *_, even in found.groups)
        assert place == lengths.sum(), "a place is a row"
        return
    spread, back, mask = found.padding
    assert len(spread) == len(mask) == place
    assert mask.sum() == lengths.sum()
    for (at, length), start in zip(shown, starts, strict=True):
        rows_of_it = np.arange(start, start + length)
        assert (spread[at : at + length] == rows_of_it).all()
        assert mask[at : at + length].all()
        assert (back[rows_of_it] == np.arange(at, at + length)).all()
    assert len(back) == rows
    assert spread.max() < lengths.sum()
    assert back.max() < place


def test_few_lengths_are_not_padded_and_many_little():
    few = np.repeat(np.arange(3, 3 + GROUPS_MAX), 2)
    assert len(groups_of(few, SCORES)) == GROUPS_MAX
    many = np.arange(3, 43)
    groups = groups_of(many, SCORES)
    assert 1 < len(groups) < len(many) / 2
    padding = sum(count * longest**2 for _, count, longest, _ in groups) - (many**2).sum()
    assert padding < SCORES * len(many)


@given(st.lists(st.integers(1, 512), min_size=1, max_size=400))
def test_groups_are_few_whatever_the_lengths(lengths):
    for order in (lengths, sorted(lengths)):
        assert len(groups_of(np.array(order, np.int32), SCORES)) <= MERGED_GROUPS_MAX


def test_few_counts_of_rows_are_computed():
    filled = [tokens + -tokens % rows_multiple(tokens) for tokens in range(1, 513)]
    assert len(set(filled)) <= 45, "each is a program of oneDNN's for each of four layers"
    assert all(new - old < max(4, 0.17 * old) for old, new in enumerate(filled, 1)), "little is computed for nobody"

"""Where the packed encoder's tokens attend: few counts of rows, few groups, little padding. Pure; no torch.

oneDNN makes a program for each count of rows that it multiplies, and each step of attention over a group takes some
microseconds however few its inputs are. So packed tokens are filled up to round numbers, and inputs of nearly the same
length attend together.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from inference_workers.engines.inputs import Ints

ROWS_MULTIPLE = 16
"""Packed tokens are filled up to a multiple of this on a CPU, few of them to one of 4 or 8. A count of rows that was
not seen lately takes 2.5 ms more, where a batch of 16 queries takes 15."""

GROUPS_MAX = 16
"""Inputs of up to so many lengths attend length by length, which needs no copying: for 18 queries of 7 lengths that
takes 0.36 ms a layer, padded to one length 0.53, in two groups 0.44."""

GROUP_SCORES, MERGED_GROUPS_MAX = 6_000, 28
"""With more lengths, neighbours share a group where the scores of padding (of all heads) are fewer than this; than
twice as many, and so on, while there are more groups: see `PROGRAMS_KEPT`."""

Group = tuple[int, int, int, bool]
"""Inputs that attend together: its first place, inputs, places of each, and whether all of these are real."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where attention sees which token: `groups` one after the other, each input padded to its group's longest.

    `padding`: `spread` [places], which packed row each place shows; `back` [rows], at which place each row is; `mask`
    [places], 1 for those that are real. None where nothing is padded: then a place is a row.
    """

    groups: list[Group]
    padding: tuple[Ints, Ints, Ints] | None = None


def rows_multiple(tokens: int) -> int:
    """What so many packed tokens are filled up to a multiple of: little work for nothing, and few different counts."""
    return 4 if tokens < 48 else 8 if tokens < 96 else ROWS_MULTIPLE


def places_of(lengths: Ints, starts: Ints, rows: int, *, scores: int | None) -> Places:
    """Where inputs of these lengths [n], packed from `starts` on, attend, with `rows` packed rows in all. Neighbours
    share a group where there are too many lengths and the scores of padding, per head, are fewer than `scores`; None:
    all share one."""
    groups = groups_of(lengths, scores)
    if all(even for *_, even in groups):
        return Places(groups)
    wide = np.repeat(*np.array([(longest, count) for _, count, longest, _ in groups], np.int32).T)
    ends = np.cumsum(wide, dtype=np.int32)
    columns = np.arange(ends[-1], dtype=np.int32) - np.repeat(ends - wide, wide)
    mask = columns < np.repeat(lengths, wide)
    spread = np.where(mask, np.repeat(starts, wide) + columns, 0)
    back = np.zeros(rows, np.int32)  # rows that are nobody's show the first place
    back[: int(lengths.sum())] = np.flatnonzero(mask)
    return Places(groups, (spread, back, mask.astype(np.int32)))


def groups_of(lengths: Ints, scores: int | None) -> list[Group]:
    """See `places_of`. Inputs in order of length give the fewest groups."""
    if scores is None:
        longest = int(lengths.max())
        return [(0, len(lengths), longest, bool((lengths == longest).all()))]
    starts = np.flatnonzero(np.diff(lengths, prepend=-1)).tolist()
    runs = [(end - start, int(lengths[start])) for start, end in pairwise([*starts, len(lengths)])]
    groups = _merged(runs, 0)
    if len(groups) > GROUPS_MAX:
        groups, scores = _merged(runs, scores), max(1, scores)
        while len(groups) > MERGED_GROUPS_MAX:
            scores *= 2
            groups = _merged(runs, scores)
    return groups


def _merged(runs: list[tuple[int, int]], scores: int) -> list[Group]:
    """Groups of runs (inputs, length of each), neighbours merged where padding costs fewer than `scores`; 0: none."""
    groups: list[Group] = []
    for inputs, length in runs:
        place, count, longest, even = 0, inputs, length, True
        if groups:
            before, others, places, whole = groups[-1]
            widest = max(places, length)
            padding = (others + inputs) * widest**2 - others * places**2 - inputs * length**2
            if padding < scores:
                groups.pop()
                place, count, even = before, others + inputs, whole and places == length
                longest = widest
            else:
                place = before + others * places
        groups.append((place, count, longest, even))
    return groups

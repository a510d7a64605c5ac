"""The compiled loops behind event-F1: alarms with a cool-down, kept up to date while the threshold rises.

A threshold's alarms are a greedy chain: the first point that reaches it, then the first one at least a cool-down
later, and so on. When a point drops out that is no alarm, the chain stays. When it is one, the chain changes from there
to where the old and the new one meet again, soon in sparse data. So all thresholds together cost about a sort.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors.compiled import compiled


@compiled
def alarms_of(places: NDArray[np.int64], cool_down: int) -> NDArray[np.bool_]:
    """Which of the rising `places` are alarms."""
    chosen = np.zeros(len(places), dtype=np.bool_)
    free_from = np.int64(-1)
    for i in range(len(places)):
        if places[i] >= free_from:
            chosen[i] = True
            free_from = places[i] + cool_down
    return chosen


@compiled
def _following(following: NDArray[np.int32], place: int) -> int:
    """The first place from `place` on that is still in; halves the paths that it walks."""
    place = min(place, len(following) - 1)
    while following[place] != place:
        following[place] = following[following[place]]
        place = following[place]
    return place


@compiled
def _count(
    place: int,
    step: int,
    held_from: NDArray[np.int32],
    held_to: NDArray[np.int32],
    hits: NDArray[np.int32],
    counts: NDArray[np.int64],
) -> None:
    """Take an alarm in (`step` 1) or out (-1). `counts` are found events and false alarms."""
    if held_from[place] >= held_to[place]:
        counts[1] += step
    for event in range(held_from[place], held_to[place]):
        was = hits[event] > 0
        hits[event] += step
        counts[0] += int(hits[event] > 0) - int(was)


@compiled
def sweep(
    order: NDArray[np.int64],
    scores: NDArray[np.float64],
    length: int,
    held_from: NDArray[np.int32],
    held_to: NDArray[np.int32],
    events: int,
    cool_down: int,
) -> tuple[float, int, int]:
    """Best threshold by F1, found events and false alarms there.

    `order` are the places that have a score, of `length` places, from the lowest score to the highest; `scores` are
    theirs in that order. Events `held_from[p]` to `held_to[p]` (exclusive) hold place p.
    """
    following = np.arange(1, length + 2).astype(np.int32)
    following[length] = length  # the end, which is never taken out
    for place in order:
        following[place] = place
    is_alarm = np.zeros(length + 1, dtype=np.bool_)
    hits, counts = np.zeros(events, dtype=np.int32), np.zeros(2, dtype=np.int64)
    at = _following(following, 0)
    while at < length:
        is_alarm[at] = True
        _count(at, 1, held_from, held_to, hits, counts)
        at = _following(following, at + cool_down)
    best_f1, threshold, found, false = -1.0, np.inf, 0, 0
    for i in range(len(order)):
        if i == 0 or scores[i] != scores[i - 1]:
            f1 = 2.0 * counts[0] / (counts[0] + counts[1] + events)
            if f1 >= best_f1:
                best_f1, threshold, found, false = f1, scores[i], counts[0], counts[1]
        place = order[i]
        following[place] = place + 1
        if not is_alarm[place]:
            continue
        is_alarm[place] = False
        _count(place, -1, held_from, held_to, hits, counts)
        new, old = _following(following, place + 1), _following(following, place + cool_down)
        while new != old:
            if new < old:
                is_alarm[new] = True
                _count(new, 1, held_from, held_to, hits, counts)
                new = _following(following, new + cool_down)
            else:
                is_alarm[old] = False
                _count(old, -1, held_from, held_to, hits, counts)
                old = _following(following, old + cool_down)
    return threshold, found, false

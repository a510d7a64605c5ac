"""The states of all triggers of a series in few bytes: values without their names, counts of histograms as bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

from stream_jobs.scored_metric import Metric, Trigger

COUNT_BYTES = 8
"""Of one count: a whole number with sign, the lowest byte first."""


class TriggerStates:
    """Takes from states what is the same in all, and back. A trigger's state is a dict of values whose names are those
    of a new one's, or a list; dicts in a list are histograms: whole numbers by name."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        fresh = {metric.name: metric.policy.detector().state() for metric in metrics}
        self._names = {name: tuple(state) for name, state in fresh.items() if isinstance(state, dict)}
        self._histograms = {name: _dicts(state) for name, state in fresh.items() if isinstance(state, list)}

    def parted(self, triggers: Mapping[str, Trigger]) -> tuple[dict[str, Any], bytes]:
        """What is left of the states, by metric, with lengths for histograms, and their counts in order."""
        left: dict[str, Any] = {}
        counts: list[int] = []
        for name, trigger in triggers.items():
            state = trigger.state()
            if name in self._names:
                state = [state[one] for one in self._names[name]]
            else:
                for at in self._histograms.get(name, ()):
                    for one in state[at].values():
                        counts += one
                    state[at] = {which: len(one) for which, one in state[at].items()}
            left[name] = state
        return left, struct.pack(f"<{len(counts)}q", *counts)

    def joined(self, left: Mapping[str, Any], counts: bytes) -> dict[str, Any]:
        """The states again; also of an earlier version, which left names and counts where they were. Raises ValueError
        when the counts are not those of the lengths."""
        if len(counts) % COUNT_BYTES:
            raise ValueError(f"triggers: {len(counts)} bytes of counts")
        all_counts = list(struct.unpack(f"<{len(counts) // COUNT_BYTES}q", counts))
        begin, states = 0, dict(left)
        for name, state in left.items():
            if not isinstance(state, list):
                continue
            states[name] = state = list(state)
            for at in _dicts(state):
                state[at] = histograms = dict(state[at])
                for which, length in histograms.items():
                    if isinstance(length, int):
                        if length < 0:
                            raise ValueError("triggers: a histogram's length is below 0")
                        histograms[which] = all_counts[begin : begin + length]
                        begin += length
            if len(state) == len(self._names.get(name, ())):  # else it is broken, and its trigger says so
                states[name] = dict(zip(self._names[name], state, strict=True))
        if begin != len(all_counts):
            raise ValueError(f"triggers: {len(all_counts)} counts, {begin} expected")
        return states


def _dicts(state: list[Any]) -> tuple[int, ...]:
    return tuple(at for at, one in enumerate(state) if isinstance(one, dict))

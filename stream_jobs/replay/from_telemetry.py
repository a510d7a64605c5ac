"""A window of a series again, from the telemetry that it was made from: stage 1's own code over the named offsets.

What stage 1 had learnt before is not there any more, and is taken from the table of requests: which requests had been
answered before, so that what was told again counts once, and the scores of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from infra.ports import Record
from schemas.anomalies import InputRange
from schemas.base import DecodeError, decode
from schemas.topics import WINDOWS
from schemas.windows import WINDOW_KINDS, PartialSeries, PartialWindowsClosed, SeriesKey
from stream_jobs.replay.recompute import NotReproducible, same_bits
from stream_jobs.request_log import AnyRequests
from stream_jobs.request_stage import RequestStage
from stream_jobs.settings import JobSettings
from stream_jobs.stage import Effects
from stream_jobs.telemetry_rows import Grouping, TelemetryRows
from stream_jobs.window_rows import SeriesWindow, Share, WindowId, merged, name_of

Source = tuple[str, str]
"""Cluster id and id of the request topic."""


@dataclass(frozen=True, slots=True)
class KnownRequests:
    """What the table of requests says of one partition. `scores` by source and offset, of the window's requests;
    `before`: offsets answered before it, of those that the window may name."""

    scores: Mapping[Source, Mapping[int, tuple[float, bool]]] = field(default_factory=dict)
    before: Mapping[Source, NDArray[np.int64]] = field(default_factory=dict)


class Telemetry(Protocol):
    """Where the records are."""

    def records(self, partition: int, first_offset: int, next_offset: int) -> Iterable[Record]:
        """Those of the range, and the one after it. Raises NotReproducible when some are gone."""

    def known(self, partition: int, window: WindowId) -> KnownRequests:
        """What is known of the requests. Raises NotReproducible when it is not known any more."""


class _WindowAgain(RequestStage):
    """Stage 1 over one window, with what it knew before given."""

    def __init__(self, settings: JobSettings, window: WindowId, inputs: InputRange, known: KnownRequests) -> None:
        super().__init__(
            settings,
            topic_id=window.topic_id,
            partition=inputs.partition,
            window_partitions=1,
            requests=AnyRequests(),
            next_offset=inputs.first_offset,
        )
        self._known = known
        for (cluster_id, topic_id), offsets in known.before.items():
            self._seen_of(cluster_id, topic_id, Effects()).add(offsets)

    def _score(
        self, rows: TelemetryRows, grouping: Grouping, effects: Effects
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        stored = self._known.scores.get((rows.event.cluster_id, rows.event.topic_id), {})
        found = [stored.get(offset, (0.0, True)) for offset in rows.requests.offset.tolist()]
        return np.array([one for one, _ in found]), np.array([learning for _, learning in found], dtype=np.bool_)


def window_again(
    window: WindowId, key: SeriesKey, inputs: Iterable[InputRange], telemetry: Telemetry, settings: JobSettings
) -> SeriesWindow | None:
    """The series' window; None when the telemetry holds nothing of it. Raises NotReproducible."""
    name = name_of(key)
    shares: dict[int, Share] = {}
    for one in inputs:
        found = _share(window, name, one, telemetry, settings)
        if found is not None:
            shares[one.partition] = Share(one.first_offset, one.next_offset, {name: found})
    return merged(window, name, shares, 0) if shares else None


def _share(
    window: WindowId, name: str, inputs: InputRange, telemetry: Telemetry, settings: JobSettings
) -> PartialSeries | None:
    """What one source partition says of the series."""
    where = f"telemetry partition {inputs.partition}"
    stage = _WindowAgain(settings, window, inputs, telemetry.known(inputs.partition, window))
    for record in telemetry.records(inputs.partition, inputs.first_offset, inputs.next_offset):
        try:
            effects = stage.apply(record)
        except DecodeError:
            effects = stage.skip(record)
        said = [event for event in effects.events if event.topic == WINDOWS.name]
        closed = [decode(event.headers, event.value, WINDOW_KINDS).data for event in said]
        if closed:
            return _of(closed, window, name, inputs)
    raise NotReproducible(f"nothing in offsets {inputs.first_offset} to {inputs.next_offset} of {where} closed it")


def _of(
    closed: Sequence[PartialWindowsClosed], window: WindowId, name: str, inputs: InputRange
) -> PartialSeries | None:
    """The series in what the range closed."""
    cut = closed[0].window_start_ms, closed[0].window_end_ms
    if cut != (window.start_ms, window.end_ms) or closed[0].next_offset != inputs.next_offset:
        raise NotReproducible(
            f"offsets {inputs.first_offset} to {inputs.next_offset} of telemetry partition {inputs.partition} are "
            f"another window by now, {cut[0]} to {cut[1]}: windows are cut otherwise"
        )
    found = (one for event in closed for one in event.series)
    return next((one for one in found if name_of(one.key) == name), None)


def compared(row: Mapping[str, Any], again: SeriesWindow) -> dict[str, tuple[Any, Any]]:
    """Columns of a row of `windows` that came out otherwise, with both values."""
    found = again.row
    return {
        name: (row[name], found[name]) for name in found if name != "revision" and not same_bits(row[name], found[name])
    }

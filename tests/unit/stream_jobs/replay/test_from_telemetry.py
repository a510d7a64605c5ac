"""Windows made again from telemetry by stage 1's own code: equal to those that were told live, repeats and row scores
included, and not equal when one record was altered."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from schemas.anomalies import InputRange
from schemas.base import decode
from schemas.telemetry import Outcome
from schemas.windows import WINDOW_KINDS, SeriesKey
from stream_jobs.replay.from_telemetry import KnownRequests, compared, window_again
from stream_jobs.replay.recompute import NotReproducible
from stream_jobs.request_log import AnyRequests
from stream_jobs.request_stage import RequestStage
from stream_jobs.settings import JobSettings
from stream_jobs.window_rows import Share, WindowId, merged, name_of
from tests.telemetry_events import T0, record, served, stored, ticked

SETTINGS = JobSettings(row_window=20)
KEY = SeriesKey(model="mini", version="1", scenario="search")
SOURCE = ("cluster-1", "requests-1")


class Live:
    """A partition's telemetry, and what stage 1 made of it: partial windows and rows of requests."""

    def __init__(self, partition=0, seed=1):
        rng = random.Random(seed)
        stage = RequestStage(SETTINGS, topic_id="t", partition=partition, window_partitions=1, requests=AnyRequests())
        self.partition, self.log, self.partials, self.rows = partition, [], [], []
        at, offset = T0, 0
        for number in range(120):
            at += rng.randrange(100, 900)
            event = ticked(partition) if number % 7 == 6 else self._served(rng, offset, partition)
            offset += 0 if number % 7 == 6 else 12
            one = record(event, number, at, partition=partition)
            self.log.append(one)
            effects = stage.apply(one)
            self.partials += [decode(e.headers, e.value, WINDOW_KINDS).data for e in effects.events]
            rows = stored(effects) if effects.rows else {"offset": []}
            self.rows += [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]

    @staticmethod
    def _served(rng, offset, partition):
        # A worker that ended: some of what the one before it had answered is told again.
        offsets = range(max(0, offset - (5 if rng.random() < 0.5 else 0)), offset + 12)
        return served(
            offsets,
            partition=partition,
            total_ms=rng.lognormvariate(4, 0.5),
            outcome=lambda o: Outcome.FAILED if o % 31 == 0 else Outcome.ANSWERED,
        )

    def records(self, partition, first_offset, next_offset):
        if first_offset < self.log[0].offset:
            raise NotReproducible(f"offsets {first_offset} have expired")
        return self.log[first_offset - self.log[0].offset : next_offset + 1 - self.log[0].offset]

    def known(self, partition, window):
        inside = [row for row in self.rows if window.start_ms <= row["served_at"] < window.end_ms]
        scores = {row["offset"]: (row["score"], row["learning"]) for row in inside}
        before = [row["offset"] for row in self.rows if row["served_at"] < window.start_ms]
        return KnownRequests({SOURCE: scores}, {SOURCE: np.array(before, dtype=np.int64)})

    def window_of(self, partial):
        return WindowId("t", partial.window_start_ms, partial.window_end_ms)

    def told(self, partial):
        """The window as stage 2 merges it from this partition alone."""
        series = {name_of(one.key): one for one in partial.series}
        share = Share(partial.first_offset, partial.next_offset, series)
        return merged(self.window_of(partial), name_of(KEY), {self.partition: share}, 0)

    def inputs(self, partial):
        return [
            InputRange(partition=self.partition, first_offset=partial.first_offset, next_offset=partial.next_offset)
        ]


@pytest.fixture(scope="module")
def live():
    return Live()


def with_series(live):
    return [one for one in live.partials if any(s.key == KEY for s in one.series)]


def test_every_window_comes_out_bit_for_bit(live):
    found = with_series(live)
    assert len(found) > 3
    assert any(live.told(one).repeated for one in found)  # repeats of what an earlier window answered
    assert any(live.told(one).row["row_score_mean"] > 0.0 for one in found)
    for one in found:
        again = window_again(live.window_of(one), KEY, live.inputs(one), live, SETTINGS)
        assert compared(live.told(one).row, again) == {}
        assert again == live.told(one)


def test_two_partitions_are_merged_in_their_order():
    both = [Live(0, seed=1), Live(1, seed=1)]
    one, other = (with_series(live)[2] for live in both)

    class Both:
        def records(self, partition, first_offset, next_offset):
            return both[partition].records(partition, first_offset, next_offset)

        def known(self, partition, window):
            return both[partition].known(partition, window)

    inputs = [*both[1].inputs(other), *both[0].inputs(one)]
    again = window_again(both[0].window_of(one), KEY, inputs, Both(), SETTINGS)
    assert again.requests == 2 * both[0].told(one).requests
    assert [span.partition for span in again.inputs] == [0, 1]


def test_one_altered_record_shows_in_the_columns_that_it_touches(live):
    one = with_series(live)[3]
    altered = Live()
    at = next(
        number for number in range(one.first_offset, one.next_offset) if b"compute_ms" in altered.log[number].value
    )
    event = json.loads(altered.log[at].value)
    event["requests"]["total_ms"] = [value * 100.0 for value in event["requests"]["total_ms"]]
    altered.log[at] = replace(altered.log[at], value=json.dumps(event).encode())
    again = window_again(live.window_of(one), KEY, live.inputs(one), altered, SETTINGS)
    assert any(name.startswith("total_ms") for name in compared(live.told(one).row, again))


def test_without_what_was_answered_before_repeats_would_count_twice(live):
    class Forgetful(Live):
        def known(self, partition, window):
            return replace(super().known(partition, window), before={})

    forgetful = Forgetful()
    found = [
        compared(live.told(one).row, window_again(live.window_of(one), KEY, live.inputs(one), forgetful, SETTINGS))
        for one in with_series(live)
    ]
    assert any("repeated" in one and "requests" in one for one in found)


def test_it_says_why_it_cannot(live):
    one = with_series(live)[0]
    expired = Live()
    del expired.log[: one.first_offset + 1]
    with pytest.raises(NotReproducible, match="have expired"):
        window_again(live.window_of(one), KEY, live.inputs(one), expired, SETTINGS)
    other = SETTINGS.model_copy(update={"window_seconds": 3.0})
    with pytest.raises(NotReproducible, match="windows are cut otherwise"):
        window_again(live.window_of(one), KEY, live.inputs(one), live, other)
    cut = Live()
    del cut.log[one.next_offset :]
    with pytest.raises(NotReproducible, match="closed it"):
        window_again(live.window_of(one), KEY, live.inputs(one), cut, SETTINGS)

"""Telemetry for a replay from Kafka and the tables, over fakes of both; and why it cannot be had."""

import pytest

from infra.ports import RetryLater, Silence
from infra.settings import KafkaSettings
from schemas.tables import WINDOWS
from schemas.topics import TELEMETRY
from stream_jobs.replay import kafka_telemetry
from stream_jobs.replay.from_telemetry import compared
from stream_jobs.replay.kafka_telemetry import REPEATS_REACH, KafkaTelemetry
from stream_jobs.replay.recompute import NotReproducible
from tests.fakes import FakeClock
from tests.unit.stream_jobs.replay.test_from_telemetry import KEY, SETTINGS, SOURCE, Live, with_series


class Asked:
    """As much of an anomaly's row as is asked for."""

    def __init__(self, live, partial):
        self.window, self.key, self.inputs = live.window_of(partial), KEY, tuple(live.inputs(partial))
        self.row = {"scenario": KEY.scenario, "model": KEY.model, "model_version": KEY.version}


class World:
    """A telemetry log that begins at `first` and ends before `after`, read in small pieces; and the tables."""

    def __init__(self, live, monkeypatch, *, first=0, after=None, topic_id="t", silent=False):
        self.live, self.clock, self.silent = live, FakeClock(), silent
        self.ends = first, len(live.log) if after is None else after
        self.id, self.asked, self.closed = topic_id, [], 0
        monkeypatch.setattr(kafka_telemetry, "KafkaCluster", lambda kafka, client_id: self)
        monkeypatch.setattr(kafka_telemetry, "KafkaRangeReader", lambda kafka, clock, client_id: self)
        self.telemetry = KafkaTelemetry(KafkaSettings(), self, SETTINGS, self.clock)

    def topic_id(self, topic):
        assert topic == TELEMETRY.name
        return self.id

    def ranges(self, topic):
        return {self.live.partition: self.ends}

    def read(self, ranges):
        ((_, (at, after)),) = ranges.items()
        try:
            if self.silent:
                raise Silence("nothing came for 30 s")
            while at < after:
                yield self.live.log[at : min(at + 7, after)]
                at = min(at + 7, after)
        finally:
            self.closed += 1

    def query(self, sql, parameters):
        self.asked.append(parameters)
        if f"FROM {WINDOWS.view} " in sql:
            return WINDOWS.column_names, []
        rows = self.live.rows
        if "first" in parameters:
            inside = [row for row in rows if row["served_at"] < parameters["start"]]
            inside = [row for row in inside if parameters["first"] <= row["offset"] <= parameters["last"]]
            return ("offset",), [(row["offset"],) for row in inside]
        inside = [row for row in rows if parameters["start"] <= row["served_at"] < parameters["end"]]
        names = ("offset", "score", "learning")
        return (), [(*SOURCE, *(row[name] for name in names)) for row in inside]


@pytest.fixture(scope="module")
def live():
    return Live()


@pytest.fixture(scope="module")
def partial(live):
    return next(one for one in with_series(live)[2:] if live.told(one).repeated)


def test_the_window_comes_out_as_it_was_told(live, partial, monkeypatch):
    world = World(live, monkeypatch)
    again = world.telemetry.again(Asked(live, partial))
    assert compared(live.told(partial).row, again) == {}
    assert world.closed == 1
    known = next(one for one in world.asked if "last" in one)
    assert known["last"] - known["first"] <= REPEATS_REACH + 10_000


def test_a_window_whose_row_is_gone_has_none(live, partial, monkeypatch):
    world = World(live, monkeypatch)
    assert world.telemetry.row(Asked(live, partial)) is None
    (asked,) = world.asked
    assert (asked["scenario"], asked["start"]) == (KEY.scenario, partial.window_start_ms)


@pytest.mark.parametrize(
    ("log", "why"),
    [
        ({"first": 10**6, "after": 10**6}, r"have expired: the log begins at 1000000"),
        ({"after": 1}, r"are not all there: the log ends at 1$"),
        ({"topic_id": "u"}, r"was made anew: the telemetry was of topic t, there is u"),
    ],
)
def test_it_says_why_the_telemetry_cannot_be_had(live, partial, monkeypatch, log, why):
    world = World(live, monkeypatch, **log)
    with pytest.raises(NotReproducible, match=why):
        world.telemetry.again(Asked(live, partial))


def test_the_last_record_needed_is_the_one_that_closed_the_window(live, partial, monkeypatch):
    whole = World(live, monkeypatch, after=partial.next_offset + 1)
    assert whole.telemetry.again(Asked(live, partial)) == live.told(partial)
    short = World(live, monkeypatch, after=partial.next_offset)
    with pytest.raises(NotReproducible, match="are not all there"):
        short.telemetry.again(Asked(live, partial))


def test_a_partition_that_is_not_there_any_more_is_said(live, partial, monkeypatch):
    world = World(live, monkeypatch)
    world.ranges = lambda topic: {}
    with pytest.raises(NotReproducible, match="the log ends at 0"):
        world.telemetry.again(Asked(live, partial))


def test_kafka_that_gives_nothing_though_there_is_can_be_asked_again(live, partial, monkeypatch):
    world = World(live, monkeypatch, silent=True)
    with pytest.raises(RetryLater, match="nothing came for 30 s"):
        world.telemetry.again(Asked(live, partial))
    assert world.closed == 1

"""`inferwatch ask`: finds its own answer among others, its row, and says what is missing and why."""

import json
import re
from array import array
from datetime import UTC, datetime

import pytest

from infra.ports import Record, RetryLater
from producers.ask_cli import Asked, find_answer, find_row, show, why_no_answer
from schemas.base import Identity, encode, headers_for
from schemas.predictions import Embedding, InferenceAnswered, InferenceFailed, ModelRef, RequestShed, Timings
from schemas.topics import PREDICTIONS
from schemas.vectors import encode_vector
from tests.fakes import FakeClock

MINE = Identity(cluster_id="c", topic_id="t", partition=1, offset=7)
OTHER = Identity(cluster_id="c", topic_id="t", partition=1, offset=8)


def answered(identity):
    return InferenceAnswered(
        request=identity,
        request_id="r",
        scenario="search",
        worker_id="w-1",
        model=ModelRef(name="mini", version="1"),
        outputs=[Embedding(vector=encode_vector(array("f", [0.5] * 8).tobytes()), dimension=8)],
        timings_ms=Timings(queue=1.0, tokenise=0.5, compute=2.0, total=4.0),
        truncated=True,
    )


def shed(identity):
    return RequestShed(request=identity, request_id="r", scenario="search", worker_id="w-1", reason="expired")


def failed(identity, message="bad\x1b[31m"):
    return InferenceFailed(
        request=identity,
        request_id="r",
        scenario="search",
        worker_id="w-1",
        model=ModelRef(name="mini", version="1"),
        error="RuntimeError",
        message=message,
    )


class Tail:
    """Answers, one poll after the other; time passes with each."""

    def __init__(self, clock, *messages):
        self.clock, self.left = clock, list(messages)

    def poll(self, count_max, timeout_seconds):
        self.clock.advance(timeout_seconds)
        if not self.left:
            return []
        message = self.left.pop(0)
        if message is None:
            return [Record(PREDICTIONS.name, 0, 0, 0, None, b"broken")]
        headers = headers_for(message, event_id="e", source="w", time=datetime(2026, 1, 1, tzinfo=UTC))
        return [Record(PREDICTIONS.name, 1, 0, 0, None, encode(message), headers)]


@pytest.mark.parametrize("make", [answered, shed, failed])
def test_its_own_answer_is_found_among_others_and_broken_ones(make):
    clock = FakeClock()
    tail = Tail(clock, answered(OTHER), None, make(MINE))
    assert find_answer(tail, MINE, seconds=5, monotonic=clock.monotonic) == make(MINE)


def test_no_answer_in_time():
    clock = FakeClock()
    assert find_answer(Tail(clock, answered(OTHER)), MINE, seconds=3, monotonic=clock.monotonic) is None
    assert clock.monotonic() == pytest.approx(1_003)


class Table:
    """Answers with its rows from the `after`-th query on."""

    def __init__(self, after):
        self.after, self.asked = after, []

    def query(self, sql, parameters=None):
        self.asked.append(parameters)
        return ("partition", "outcome"), ([(1, "answered")] if len(self.asked) > self.after else [])


def test_the_row_is_waited_for_and_asked_by_identity():
    clock, table = FakeClock(), Table(3)
    row = find_row(table, MINE, seconds=5, monotonic=clock.monotonic, wait=clock.advance)
    assert row == {"partition": 1, "outcome": "answered"}
    assert table.asked[0] == {"cluster_id": "c", "topic_id": "t", "partition": 1, "offset": 7}


def test_no_row_in_time():
    clock = FakeClock()
    assert find_row(Table(10**6), MINE, seconds=2, monotonic=clock.monotonic, wait=clock.advance) is None


class Cluster:
    def __init__(self, committed, error=None):
        self._committed, self._error = committed, error

    def ranges(self, topic):
        if self._error:
            raise self._error
        return {0: (5, 10), 1: (0, 20)}

    def committed(self, group, topic):
        return self._committed


@pytest.mark.parametrize(
    ("committed", "words"),
    [
        ({}, "never finished anything: is a worker running.*25 requests are owed"),
        ({0: 10, 1: 5}, "has not come to it: 15 requests"),
        ({0: 2, 1: 5}, "20 requests"),
        ({0: 10, 1: 8}, "is past it.*dead-letters"),
    ],
)
def test_why_there_is_no_answer(committed, words):
    text = why_no_answer(Cluster(committed), "g", MINE)
    assert re.search(words, text), text


def test_why_when_kafka_is_silent_too():
    assert "away" in why_no_answer(Cluster({}, RetryLater("away")), "g", MINE)


def test_everything_is_shown():
    asked = Asked("r", MINE, answered(MINE), 0.045, {"outcome": "answered", "score": 0.123456})
    text = show(asked)
    for words in ("answered by w-1, 45 ms", "mini, version 1", "8 numbers: 0.5000", "queue 1.0", "score 0.1235", "cut"):
        assert words in text
    assert "partition = 1 AND offset = 7" in text
    assert asked.exit_code == 0
    facts = json.loads(json.dumps(asked.as_json()))
    assert facts["outcome"] == "answered"
    assert facts["identity"]["offset"] == 7


def test_failed_and_shed_are_said_without_steering_the_terminal():
    text = show(Asked("r", MINE, failed(MINE), 0.1, {}))
    assert "RuntimeError: bad" in text
    assert "\x1b" not in text
    assert Asked("r", MINE, failed(MINE), 0.1, {}).exit_code == 1
    assert "expired" in show(Asked("r", MINE, shed(MINE)), no_row=True)


def test_what_is_missing_is_said():
    asked = Asked("r", MINE, missing=["no answer within 1 s: nobody there"])
    assert "missing   no answer within 1 s" in show(asked)
    assert asked.exit_code == 75

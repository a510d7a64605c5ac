"""The checker of the chaos suite sees each fault that it is there for, and nothing where there is none."""

import json
import struct
import zlib
from collections import defaultdict

import pytest

from tests.chaos.checker import Message, Sent, Verdict, check_requests, final_state, visible_events
from tests.chaos.recovery import recovery, seconds_after

SENT = [Sent("T", 0, number, f"n-{number}") for number in range(4)]


class World:
    """What topics and tables say: all is well until a test changes it. Request 3 is poison."""

    def __init__(self):
        self.topics = defaultdict(list)
        self.first = {0: 0}
        self.rows_shown = []
        self.stored = 4
        for one in SENT:
            headers = {"ce_id": one.name.encode()} if one.offset < 3 else {}
            value = b"{}" if one.offset < 3 else b'{"input": 5, "x": "#n-3"}'
            self.put("inference.requests", value, headers)
        for one in SENT[:3]:
            self.answer(one, "answered")
            self.row(one, "answered")
        self.bury(SENT[3])
        self.row(SENT[3], "dead_lettered", request_id="")

    def put(self, topic, value, headers):
        self.topics[topic].append(Message(0, len(self.topics[topic]), 0, None, value, headers))

    def answer(self, one, outcome, topic_id="T", name=None):
        body = {"request": {"topic_id": topic_id, "partition": one.partition, "offset": one.offset}}
        value = json.dumps(body | {"request_id": name or one.name}).encode()
        self.put("inference.predictions", value, {"ce_type": f"inferwatch.inference.{outcome}.v1".encode()})

    def bury(self, one):
        origin = {"topic": b"inference.requests", "partition": b"0", "offset": str(one.offset).encode()}
        headers = {f"__connect.errors.{name}": value for name, value in origin.items()}
        self.put("inference.requests.dead-letters", b'{"input": 5, "x": "#%b"}' % one.name.encode(), headers)

    def row(self, one, outcome, request_id=None):
        place = {"topic_id": "T", "partition": one.partition, "offset": str(one.offset)}
        self.rows_shown.append(
            {**place, "request_id": one.name if request_id is None else request_id, "outcome": outcome}
        )

    def topic_id(self, topic):
        return "T"

    def first_offsets(self, topic):
        return self.first

    def read(self, topic):
        return [one for one in self.topics[topic] if topic != "inference.requests" or one.offset >= self.first[0]]

    def rows(self, sql, database="default"):
        if "uniqExact" in sql:
            return [{"n": str(self.stored), "u": str(len({row["offset"] for row in self.rows_shown}))}]
        return self.rows_shown

    def faults(self, sent=SENT, taken=None):
        verdict = Verdict()
        check_requests(self, sent, verdict, taken)
        return {name: getattr(verdict, name) for name in Verdict.FAULTS if getattr(verdict, name)}, verdict.figures


@pytest.fixture
def world():
    return World()


def test_where_all_is_well_nothing_is_found(world):
    faults, figures = world.faults()
    assert faults == {}
    assert (figures["finally_answered"], figures["finally_dead_lettered"], figures["acknowledged"]) == (3, 1, 4)


def test_a_request_without_an_answer_or_without_a_row_is_lost(world):
    del world.topics["inference.predictions"][0]
    assert world.faults()[0] == {"lost": 1}
    del world.rows_shown[1]
    assert world.faults()[0] == {"lost": 2}


def test_one_that_is_in_the_log_and_was_not_acknowledged_is_owed_an_answer_too(world):
    del world.topics["inference.predictions"][0], world.rows_shown[0]
    assert world.faults(SENT[1:])[0] == {"lost": 2}


def test_poison_without_a_dead_letter_is_lost(world):
    world.topics["inference.requests.dead-letters"].clear()
    assert world.faults()[0] == {"lost": 1}


def test_an_acknowledged_request_that_the_log_does_not_hold_is_lost(world):
    del world.topics["inference.requests"][2]
    faults, _ = world.faults()
    assert faults["lost"] == 1
    assert faults["unknown"] == 2


def test_an_answer_told_twice_is_counted_and_no_fault_while_the_first_is_what_the_row_says(world):
    world.answer(SENT[0], "shed")
    faults, figures = world.faults()
    assert faults == {}
    assert figures["raw_duplicate_answers"] == 1


def test_a_row_that_says_what_only_the_second_answer_said_disagrees(world):
    world.answer(SENT[0], "shed")
    world.rows_shown[0]["outcome"] = "shed"
    assert world.faults()[0] == {"disagreements": 1}


def test_two_rows_of_a_request_or_an_answer_beside_a_dead_letter_are_visible_duplicates(world):
    world.row(SENT[1], "answered")
    assert world.faults()[0] == {"visible_duplicates": 1}
    world.bury(SENT[0])
    assert world.faults()[0] == {"visible_duplicates": 2}


def test_an_answer_or_a_row_of_what_nobody_asked_is_unknown(world):
    world.answer(SENT[0], "answered", topic_id="another")
    world.row(Sent("T", 0, 77, "x"), "answered")
    assert world.faults()[0] == {"unknown": 2}


def test_an_answer_for_another_request_than_its_identity_says_disagrees(world):
    world.topics["inference.predictions"].clear()
    for one, name in zip(SENT[:3], ("n-0", "n-2", "n-1"), strict=True):
        world.answer(one, "answered", name=name)
    assert world.faults()[0] == {"disagreements": 2}


def test_what_retention_took_before_it_was_answered_is_expired_and_not_lost(world):
    del world.topics["inference.predictions"][0], world.rows_shown[0]
    world.first = {0: 2}
    faults, figures = world.faults()
    assert faults == {}
    assert figures["expired"] == 1


def test_what_was_deleted_and_is_there_again_is_expired_too(world):
    del world.topics["inference.predictions"][0], world.rows_shown[0]
    assert world.faults(taken={("T", 0): 1})[1]["expired"] == 1
    assert world.faults(taken={("T", 0): 1})[0] == {}
    assert world.faults(taken={("another", 0): 1})[0] == {"lost": 2}


def framed(body):
    return struct.pack(">4sI", b"IWS1", zlib.crc32(body)) + body


def state(epoch, owner, page, number):
    def put(name, body):
        return Message(0, next(numbers), 0, b"%020d|%b|%b" % (epoch, owner, name), framed(body), {})

    numbers = iter(range(number, number + 3))
    manifest = {"pages": {"clock.0": [1, 0]}, "next_offset": 5}
    return [put(b"claim", b"{}"), put(b"page|clock.0|1", page), put(b"manifest", json.dumps(manifest).encode())]


def test_the_final_state_is_that_of_the_highest_epoch_whoever_wrote_last():
    messages = [*state(7, b"ab", b"new", 10), *state(3, b"cd", b"old", 20)]
    assert final_state(messages) == {(0, "clock.0"): b"new"}


def test_of_progress_the_clock_of_its_own_topic_is_left_out():
    rows = [["clock", "", 1, 2], ["source", "t", 0, 5, 0, 5], ["open", "t", 1, 2, 999]]
    messages = state(1, b"a", json.dumps({"entries": rows}).encode(), 0)
    named = [
        Message(one.partition, one.offset, 0, one.key.replace(b"clock.0", b"progress.0"), one.value, {})
        for one in messages[:2]
    ]
    manifest = framed(json.dumps({"pages": {"progress.0": [1, 0]}}).encode())
    last = Message(0, 2, 0, messages[2].key, manifest, {})
    assert final_state([*named, last]) == {(0, "progress.0"): [["source", "t", 0, 5, 0, 5], ["open", "t", 1, 2]]}


def test_an_event_sent_again_is_one_event_unless_it_is_told_differently():
    def event(value):
        return Message(0, 0, 0, None, value, {"ce_id": b"e"})

    assert visible_events([event(b"1"), event(b"1")]) == {b"e": b"1"}
    assert len(visible_events([event(b"1"), event(b"2")])) == 2


def test_recovery_is_the_first_work_of_the_last_partition_that_began_after_the_kill():
    answers = {0: [(900, 950), (1_100, 4_000), (1_200, 3_500)], 1: [(1_050, 1_060)]}
    assert seconds_after(1_000, answers) == 2.5
    assert seconds_after(2_000, answers) is None
    told = recovery([("worker", 1_000), ("worker", 2_000)], answers, answers)
    assert told == {"worker": {"kills": 1, "median": 2.5, "worst": 2.5}}

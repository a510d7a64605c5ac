"""The checker of the chaos suite sees each fault that it is there for, and nothing where there is none."""

import json
from collections import defaultdict

import pytest

from tests.chaos.checker import Committed, Deleted, Sent, Verdict, check_requests
from tests.chaos.servers import POISON, Message

SENT = [Sent("T", 0, number, f"n-{number}") for number in range(4)]


class World:
    """What topics and tables say: all is well until a test changes it. Request 3 is poison."""

    def __init__(self):
        self.topics = defaultdict(list)
        self.first = {0: 0}
        self.rows_shown = []
        self.stored = 4
        self.now_id = "T"
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

    def tell(self, *offsets):
        """A record of telemetry; the first test's world has none."""
        body = {"topic_id": "T", "partition": 0, "requests": {"offset": list(offsets)}}
        self.put("inference.telemetry", json.dumps(body).encode(), {})

    def loses(self, number):
        """Request `number` has no answer and no row."""
        for topic in ("inference.predictions", "inference.requests.dead-letters"):
            kept = [one for one in self.topics[topic] if b"n-%d" % number not in (one.value or b"")]
            self.topics[topic] = kept
        self.rows_shown = [row for row in self.rows_shown if row["offset"] != str(number)]

    def made_anew(self):
        """The topic is deleted and made again, under another id, and nothing was asked since."""
        self.now_id, self.first = "U", {0: 0}
        self.topics["inference.requests"] = []

    def topic_id(self, topic):
        return self.now_id

    def first_offsets(self, topic):
        return self.first

    def read(self, topic):
        return [one for one in self.topics[topic] if topic != "inference.requests" or one.offset >= self.first[0]]

    def rows(self, sql, database="default"):
        if "uniqExact" in sql:
            return [{"n": str(self.stored), "u": str(len({row["offset"] for row in self.rows_shown}))}]
        return self.rows_shown

    def faults(self, sent=SENT, deleted=None, committed=None):
        verdict = Verdict()
        check_requests(self, sent, verdict, deleted, committed)
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


def deleted(committed, below=None, topic_id="T"):
    found = Deleted()
    found.note(topic_id, 0, committed, *(() if below is None else (below,)))
    return found


def test_what_retention_took_before_the_workers_had_committed_it_is_expired_and_not_lost(world):
    world.loses(1)
    world.first = {0: 2}
    faults, figures = world.faults(deleted=deleted(1, 2))
    assert faults == {}
    assert figures["expired"] == 1


def test_what_was_committed_before_retention_took_it_is_lost_without_an_answer(world):
    world.loses(0)
    world.first = {0: 2}
    assert world.faults(deleted=deleted(1, 2))[0] == {"lost": 2}


def test_what_is_gone_though_nobody_deleted_it_is_lost(world):
    world.loses(0)
    world.first = {0: 2}
    assert world.faults()[0] == {"lost": 2}


def test_retention_that_passed_twice_expires_nothing_in_between(world):
    both = Deleted()
    both.note("T", 0, 0, 1)
    both.note("T", 0, 2, 3)
    world.first = {0: 3}
    world.loses(1)
    assert world.faults(deleted=both)[0] == {"lost": 2}
    world.loses(0)
    world.loses(2)
    faults, figures = world.faults(deleted=both)
    assert (faults, figures["expired"]) == ({"lost": 2}, 2)


def test_what_was_committed_before_the_topic_was_deleted_is_lost_without_an_answer(world):
    world.loses(0)
    world.loses(2)
    world.made_anew()
    faults, figures = world.faults(deleted=deleted(2))
    assert (faults, figures["expired"]) == ({"lost": 2}, 1)


def test_a_row_of_what_was_answered_before_the_topic_was_deleted_is_owed(world):
    world.rows_shown = world.rows_shown[1:]
    world.made_anew()
    world.topics["inference.requests.dead-letters"] = []
    world.loses(3)
    assert world.faults(deleted=deleted(0))[0] == {"lost": 1}


def test_a_deletion_says_nothing_of_another_topic(world):
    world.loses(0)
    world.made_anew()
    assert world.faults(deleted=deleted(0, topic_id="another"))[0] == {"lost": 2}


def test_what_was_deleted_and_is_there_again_is_expired_too(world):
    world.loses(0)
    assert world.faults(deleted=deleted(0, 1))[1]["expired"] == 1
    assert world.faults(deleted=deleted(0, 1))[0] == {}
    assert world.faults(deleted=deleted(0, 1, "another"))[0] == {"lost": 2}


def test_only_what_is_committed_is_lost_where_more_may_come(world):
    world.loses(1)
    world.tell(0)
    assert world.faults(committed=Committed({0: 1}, {0: 1}))[0] == {}
    assert world.faults(committed=Committed({0: 2}, {0: 1}))[0] == {"lost": 2}


def test_a_row_is_lost_once_the_jobs_have_committed_what_tells_of_it(world):
    world.tell(0, 1, 2, 3)
    del world.rows_shown[1]
    assert world.faults(committed=Committed({0: 4}, {0: 0}))[0] == {}
    assert world.faults(committed=Committed({0: 4}, {0: 1}))[0] == {"lost": 1}


def test_what_the_run_itself_put_among_the_answers_is_none(world):
    for topic in ("inference.predictions", "inference.requests.dead-letters"):
        world.put(topic, b"{", {POISON: b"1"})
    assert world.faults()[0] == {}

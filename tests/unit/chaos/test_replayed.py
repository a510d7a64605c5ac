import json
import struct
import zlib

from tests.chaos.replayed import final_state, visible_events
from tests.chaos.servers import Message


def framed(body):
    return struct.pack(">4sI", b"IWS1", zlib.crc32(body)) + body


def state(epoch, owner, page, number, name="clock.0"):
    def put(key, body):
        return Message(0, next(numbers), 0, b"%020d|%b|%b" % (epoch, owner, key), framed(body), {})

    numbers = iter(range(number, number + 3))
    manifest = json.dumps({"pages": {name: [1, 0]}, "next_offset": 5}).encode()
    return [put(b"claim", b"{}"), put(b"page|%b|1" % name.encode(), page), put(b"manifest", manifest)]


def test_the_final_state_is_that_of_the_highest_epoch_whoever_wrote_last():
    messages = [*state(7, b"ab", b"new", 10), *state(3, b"cd", b"old", 20)]
    assert final_state(messages) == {(0, "clock.0"): b"new"}


def test_of_progress_the_clock_of_its_own_topic_is_left_out():
    rows = [["clock", "", 1, 2], ["source", "t", 0, 5, 0, 5], ["open", "t", 1, 2, 999]]
    page = json.dumps({"entries": rows}).encode()
    found = final_state(state(1, b"a", page, 0, "progress.0"))
    assert found == {(0, "progress.0"): [["source", "t", 0, 5, 0, 5], ["open", "t", 1, 2]]}


def test_what_the_ledger_told_is_not_of_the_telemetry():
    assert final_state(state(1, b"a", b"owed", 0, "ledger.0")) == {}


def event(value, name=b"e"):
    return Message(0, 0, 0, None, value, {"ce_id": name})


def test_an_event_sent_again_is_one_event_unless_it_is_told_differently():
    assert visible_events([event(b'{"a": 1}'), event(b'{"a": 1}')]) == {b"e": b'{"a": 1}'}
    assert len(visible_events([event(b'{"a": 1}'), event(b'{"a": 2}')])) == 2


def test_alerts_of_the_books_are_left_out():
    stalled, slow = (event(json.dumps({"metric": one}).encode(), one.encode()) for one in ("stalled_seconds", "total"))
    assert list(visible_events([stalled, slow])) == [b"total"]

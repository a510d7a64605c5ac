"""Dead letters: counted, and never too large for their topic."""

import pytest

from infra.dead_letters import DeadLetters
from infra.metrics import DEAD_LETTERS
from infra.ports import Record
from schemas.base import DecodeError, Reason, decode
from schemas.dead_letters import DeadLetter
from schemas.requests import InferenceRequested
from schemas.topics import REQUESTS, dead_letters_of
from tests.fakes import FakeBroker, FakePublisher

TOPIC = dead_letters_of(REQUESTS)


def bury(record, error):
    broker = FakeBroker(record_bytes_max=TOPIC.message_bytes_max)
    delivered = []
    DeadLetters(FakePublisher(broker), "worker").send(record, error, lambda offset, error: delivered.append(error))
    assert delivered == [None]
    [letter] = broker.of(TOPIC.name)
    return letter


def counted(reason):
    return DEAD_LETTERS.labels(REQUESTS.name, reason.value).read()


def test_each_is_counted_by_topic_and_reason():
    before = counted(Reason.NOT_JSON), counted(Reason.NOT_UTF8)
    for _ in range(2):
        bury(Record(REQUESTS.name, 0, 1, 1, b"k", b"{"), DecodeError(Reason.NOT_JSON, "why"))
    assert (counted(Reason.NOT_JSON), counted(Reason.NOT_UTF8)) == (before[0] + 2, before[1])


def test_a_text_of_ten_megabytes_is_a_dead_letter_that_fits():
    value = b'{"input": "' + b"red shoes " * 1_000_000 + b'"}'
    record = Record(REQUESTS.name, 2, 7, 1, b"user-7", value, [("x", b"h" * 100_000), ("y", b"1")])
    with pytest.raises(DecodeError) as caught:
        decode(record.headers[1:], record.value, (InferenceRequested,), plain=InferenceRequested)
    assert caught.value.reason is Reason.TOO_LARGE
    letter = bury(record, caught.value)
    sizes = [len(letter.key), len(letter.value), *(len(name) + len(raw or b"") + 10 for name, raw in letter.headers)]
    assert sum(sizes) + 100 <= TOPIC.message_bytes_max
    back = DeadLetter.from_record(letter.headers, letter.key, letter.value)
    assert (back.partition, back.offset, back.key) == (2, 7, b"user-7")
    assert value.startswith(back.value)
    assert len(back.value) + back.cut_bytes == len(value)
    assert "2 headers dropped" in back.detail

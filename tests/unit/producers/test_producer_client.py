"""The producers' library: what is refused at once, what an identity is, back-pressure, failures, awaiting."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from infra.ports import InvalidRecord, RetryLater
from infra.settings import KafkaSettings
from producers import client
from producers.client import InvalidRequest, NotDelivered, Producer, RequestTopic
from producers.partitioning import murmur2, partition_of, partition_of_turn
from schemas.base import Identity, decode
from schemas.requests import InferenceRequested
from schemas.topics import REQUESTS
from tests.fakes import FakeBroker, FakeClock, FakePublisher

TOPIC = RequestTopic("cluster-a", "topic-b", 3)


def make(publisher=None, **options):
    publisher = publisher or FakePublisher(FakeBroker(partitions=3))
    options = {"block_seconds": 0.0, "clock": FakeClock(), "random_bytes": bytes} | options
    return Producer(publisher=publisher, topic=TOPIC, **options), publisher


def test_a_request_arrives_as_it_was_meant_and_knows_its_identity():
    producer, publisher = make(source="checkout")
    trace = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    sent = producer.send("red shoes", key="user-17", scenario="recommendation", timeout_ms=50, traceparent=trace)
    (record,) = publisher.broker.of(REQUESTS.name)
    assert sent.done()
    assert sent.result(0) == Identity(
        cluster_id="cluster-a", topic_id="topic-b", partition=partition_of(b"user-17", 3), offset=0
    )
    assert record.partition == partition_of(b"user-17", 3)
    assert record.key == b"user-17"
    envelope = decode(record.headers, record.value, (InferenceRequested,))
    assert (envelope.event_id, envelope.source, envelope.traceparent) == (sent.request_id, "checkout", trace)
    assert envelope.data == InferenceRequested(input="red shoes", scenario="recommendation", timeout_ms=50)
    assert UUID(sent.request_id).version == 7


def test_several_texts_and_an_own_id():
    producer, publisher = make()
    sent = producer.send(("a", "b"), request_id="order-9")
    (record,) = publisher.broker.of(REQUESTS.name)
    envelope = decode(record.headers, record.value, (InferenceRequested,))
    assert envelope.data.inputs == ["a", "b"]
    assert sent.request_id == envelope.event_id == "order-9"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input": 17}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a"] * 65}, "input"),
        ({"input": ["a", None]}, "input"),
        ({"input": "red \ud800 shoes"}, "input"),
        ({"input": "x" * 1_048_577}, "input"),
        ({"input": "x" * 1_048_000}, "input: 10480"),
        ({"input": "a", "scenario": "Search!"}, "scenario"),
        ({"input": "a", "task": "dance"}, "task"),
        ({"input": "a", "timeout_ms": 0}, "timeout_ms"),
        ({"input": "a", "timeout_ms": float("nan")}, "timeout_ms"),
        ({"input": "a", "timeout_ms": "5"}, "timeout_ms"),
        ({"input": "a", "request_id": ""}, "request_id"),
        ({"input": "a", "request_id": "x" * 513}, "request_id"),
        ({"input": "a", "request_id": "a\nb"}, "request_id"),
        ({"input": "a", "request_id": "\udfff"}, "request_id"),
        ({"input": "a", "traceparent": "00-0-0-00"}, "traceparent"),
        ({"input": "a", "key": "\ud800"}, "key"),
    ],
)
def test_what_is_wrong_is_named_at_once_and_nothing_is_sent(arguments, words):
    producer, publisher = make()
    values = dict(arguments)
    with pytest.raises(InvalidRequest, match=f"(?m)^{words}"):
        producer.send(values.pop("input"), **values)
    assert publisher.broker.of(REQUESTS.name) == []
    assert producer.counts.sent == 0


def test_two_wrong_fields_are_both_named():
    producer, _ = make()
    with pytest.raises(InvalidRequest) as caught:
        producer.send("a", scenario="?", timeout_ms=-1)
    assert "scenario" in str(caught.value)
    assert "timeout_ms" in str(caught.value)


def test_a_wrong_source_is_refused_when_made():
    with pytest.raises(InvalidRequest, match="source"):
        make(source="")


def test_no_room_blocks_until_the_deadline_and_then_says_try_again():
    producer, publisher = make(FakePublisher(FakeBroker(), hold=True), pending_max=2)
    first = producer.send("a")
    producer.send("b")
    with pytest.raises(RetryLater, match="no room"):
        producer.send("c")
    assert producer.counts.sent == 2
    publisher.release(1)
    assert first.result(0).offset == 0
    assert not producer.send("c").done()


def test_room_that_comes_wakes_the_sender():
    producer, publisher = make(FakePublisher(FakeBroker(), hold=True), pending_max=1, block_seconds=30)
    producer.send("a")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(producer.send, "b")
        publisher.release()
        assert waiting.result(10).request_id


def test_pending_bytes_are_bounded_too():
    producer, publisher = make(FakePublisher(FakeBroker(), hold=True))
    text = "x" * 1_000_000
    for _ in range(33):
        producer.send(text)
    with pytest.raises(RetryLater):
        producer.send(text)
    publisher.release()
    assert producer.send(text)


def test_a_failed_delivery_reaches_the_result_the_callback_and_the_counts():
    producer, publisher = make()
    publisher.fail = [RetryLater("broker away"), InvalidRecord("too large"), None]
    seen = []
    lost, refused, good = [producer.send(text, on_delivery=lambda *pair: seen.append(pair)) for text in "abc"]
    with pytest.raises(NotDelivered, match=f"{lost.request_id}.*broker away"):
        lost.result(0)
    with pytest.raises(InvalidRecord, match="too large"):
        refused.result(0)
    assert [identity for identity, _ in seen] == [None, None, good.result(0)]
    assert [type(error) for _, error in seen] == [NotDelivered, InvalidRecord, type(None)]
    counts = producer.counts
    assert (counts.sent, counts.delivered, counts.failed) == (3, 1, 2)


def test_a_request_refused_when_handed_over_takes_no_room():
    class Refusing(FakePublisher):
        def publish(self, *arguments, **options):
            raise InvalidRecord("too large")

    producer, _ = make(Refusing(FakeBroker()), pending_max=1)
    for _ in range(3):
        with pytest.raises(InvalidRecord):
            producer.send("a")
    assert producer.counts.sent == 0


def test_a_callback_that_raises_harms_nobody(caplog):
    producer, _ = make()

    def broken(identity, error):
        raise RuntimeError("mine")

    assert producer.send("a", on_delivery=broken).result(0).offset == 0
    assert "on_delivery" in caplog.text


def test_awaiting_gives_the_identity_and_a_cancelled_waiter_does_not_cancel_the_request():
    producer, publisher = make(FakePublisher(FakeBroker(), hold=True))

    async def wait():
        sent = producer.send("a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.ensure_future(to_coroutine(sent)), 0.01)
        threading.Thread(target=publisher.release).start()
        return await sent

    async def to_coroutine(sent):
        return await sent

    assert asyncio.run(wait()).offset == 0


def test_awaiting_a_failed_one_raises():
    producer, publisher = make()
    publisher.fail = [RetryLater("away")]

    async def wait():
        await producer.send("a")

    with pytest.raises(NotDelivered):
        asyncio.run(wait())


def test_result_in_time_or_timeout():
    producer, _ = make(FakePublisher(FakeBroker(), hold=True))
    with pytest.raises(TimeoutError):
        producer.send("a").result(0.01)


def test_closed_means_closed_and_a_borrowed_publisher_stays_open():
    producer, publisher = make()
    with producer:
        producer.send("a")
    with pytest.raises(RuntimeError, match="closed"):
        producer.send("b")
    publisher.publish(REQUESTS.name, b"{}")


def test_leaving_the_block_with_undelivered_requests_is_said():
    producer, _ = make(FakePublisher(FakeBroker(), hold=True))
    with pytest.raises(NotDelivered, match="1 requests"), producer:
        producer.send("a")


def test_threads_may_share_one():
    producer, publisher = make(pending_max=50, block_seconds=10)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: producer.send(f"q{n}", request_id=str(n)).result(10), range(200)))
    assert len({(i.partition, i.offset) for i in found}) == 200
    assert producer.counts.delivered == len(publisher.broker.of(REQUESTS.name)) == 200


class Ticking(FakeClock):
    """Later each time that it is looked at, and counts how often that is."""

    looks = 0

    def monotonic(self):
        self.looks += 1
        return float(self.looks)


def test_threads_that_wait_for_an_answer_of_kafka_share_it_and_closing_waits_for_none(monkeypatch, until):
    asked, free, clock = [], threading.Event(), Ticking()

    def silent(settings):
        asked.append(settings)
        assert free.wait(60)
        raise RetryLater("no answer in time")

    monkeypatch.setattr(client, "request_topic", silent)
    producer = Producer(bootstrap_servers="127.0.0.1:1", clock=clock)

    def send(number):
        with pytest.raises(RetryLater, match="no answer in time"):
            producer.send("a")

    with ThreadPoolExecutor(6) as pool:
        sending = [pool.submit(send, number) for number in range(6)]
        until(lambda: clock.looks == 6, "all of them have begun")
        assert producer.close(0.0) == 0
        free.set()
        assert [one.exception(60) for one in sending] == [None] * 6
    assert len(asked) == 1


def test_servers_may_be_given_alone_and_nothing_is_opened_before_it_is_used():
    started = time.monotonic()
    producer = Producer(bootstrap_servers="127.0.0.1:1")
    assert Producer(KafkaSettings(bootstrap_servers="127.0.0.1:1")).close() == producer.close() == 0
    assert time.monotonic() - started < 5


# Kafka's own values, from the Java client's UtilsTest.
@pytest.mark.parametrize(
    ("data", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_agrees_with_the_java_client(data, signed):
    assert murmur2(data) == signed % 2**32


def test_keyless_requests_take_turns_of_a_few():
    turns = [partition_of_turn(number, 3) for number in range(96)]
    assert turns[:17] == [0] * 16 + [1]
    assert {p: turns.count(p) for p in range(3)} == {0: 32, 1: 32, 2: 32}

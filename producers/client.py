"""The library for event producers: put inference requests on Kafka, know that they are there.

    from producers.client import Producer

    with Producer(bootstrap_servers="127.0.0.1:9092", source="checkout") as producer:
        sent = producer.send("red shoes", key="user-17")
        print(sent.request_id, sent.result(timeout=10))     # where it lies: cluster/topic/partition/offset

In asyncio: `identity = await producer.send("red shoes")`. What is awaited is the delivery; `send` itself may block, and
the event loop with it: for seconds while it connects (so `open` first, as `with` does) and while there is no room.
Where that matters: `sent = await asyncio.to_thread(producer.send, "red shoes")`, then `await sent`.

The answer arrives on `inference.predictions` with the same identity and the same `request_id`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from infra.clock import SystemClock
from infra.ports import Clock, InvalidRecord, Publisher, RetryLater
from infra.settings import KafkaSettings, load
from infra.unique_ids import RANDOM_BYTES, uuid7
from producers.partitioning import partition_of, partition_of_turn
from producers.pending import Counts, Pending
from producers.sent_request import InvalidRequest, NotDelivered, OnDelivery, SentRequest
from schemas.base import VALUE_BYTES_MAX, Identity, encode, headers_for, traceparent_of
from schemas.requests import Generation, InferenceRequested, TypedInput
from schemas.topics import REQUESTS

__all__ = ["InvalidRequest", "NotDelivered", "Producer", "RequestTopic", "SentRequest", "request_topic"]
LOG = logging.getLogger(__name__)
PENDING_RECORDS_MAX = 10_000
PENDING_BYTES_MAX = 32 * 1_048_576
BLOCK_SECONDS = 10.0
NAME_CHARACTERS_MAX = 512
REQUEST_BYTES_MAX = VALUE_BYTES_MAX - 4_096
"""Of a request as JSON with its key: headers count for the topic's largest record, too."""
AnyInput = str | TypedInput | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RequestTopic:
    """What identifies the request topic of a cluster, and its partition count."""

    cluster_id: str
    topic_id: str
    partitions: int


class Producer:
    """Puts requests on `inference.requests`. Thread-safe; connects when first used; a context manager.

    Memory is bounded: at most `pending_max` undelivered requests and `PENDING_BYTES_MAX` bytes. When there is no room,
    `send` blocks up to `block_seconds` and then raises RetryLater.
    """

    def __init__(
        self,
        settings: KafkaSettings | None = None,
        *,
        bootstrap_servers: str | None = None,
        source: str = "checkout",
        pending_max: int = PENDING_RECORDS_MAX,
        block_seconds: float = BLOCK_SECONDS,
        publisher: Publisher | None = None,
        topic: RequestTopic | None = None,
        clock: Clock | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`settings` say how to reach Kafka; `bootstrap_servers` alone will do, the rest then comes from the
        environment (INFERWATCH_KAFKA_*), as does everything when neither is given. `source` names the calling program
        (CloudEvents source). A `publisher` that is handed in is flushed and not closed."""
        _check_name("source", source)
        if settings is None and publisher is None:
            given = {} if bootstrap_servers is None else {"bootstrap_servers": bootstrap_servers}
            settings = load(KafkaSettings, **given)
        self._settings = settings
        self._source = source
        self._block_seconds = block_seconds
        self._clock: Clock = clock or SystemClock()
        self._random_bytes = random_bytes
        self._pending = Pending(pending_max, PENDING_BYTES_MAX)
        self._lock, self._connecting = threading.Lock(), threading.Lock()
        self._refused: tuple[float, str] | None = None
        """When the last question to Kafka failed, and why."""
        self._publisher, self._topic = publisher, topic
        self._owns_publisher = publisher is None
        self._keyless = 0
        self._closed = self._failure_logged = False

    def open(self) -> Self:
        """Connect now and not at the first `send`. Raises RetryLater or TryAgain when Kafka is not there."""
        self._opened()
        return self

    def _opened(self) -> tuple[Publisher, RequestTopic]:
        if self._closed:
            raise RuntimeError("this producer is closed: make another one")
        if self._topic is None:
            began = self._clock.monotonic()
            with self._connecting:  # not the other lock: an answer may take long, and `close` does not wait for it
                if self._topic is None:
                    self._topic = self._asked_topic(began)
        with self._lock:
            if self._closed:
                raise RuntimeError("this producer is closed: make another one")
            if self._publisher is None:
                from infra.kafka import KafkaPublisher

                self._publisher = KafkaPublisher(self._settings or load(KafkaSettings), client_id=self._source[:64])
            return self._publisher, self._topic

    def _asked_topic(self, began: float) -> RequestTopic:
        """`began`: since when the caller waits. A question that failed meanwhile is his answer, too: else each of many
        threads would wait for one of its own, one after the other."""
        if self._refused is not None and self._refused[0] > began:
            raise RetryLater(self._refused[1])
        try:
            return request_topic(self._settings or load(KafkaSettings))
        except RetryLater as error:
            self._refused = self._clock.monotonic(), str(error)
            raise

    def send(
        self,
        input: AnyInput | Sequence[AnyInput],
        *,
        key: str | bytes | None = None,
        scenario: str = "search",
        task: str = "embed",
        query: AnyInput | None = None,
        top_n: int | None = None,
        encoding_format: str = "base64",
        generation: Generation | Mapping[str, Any] | None = None,
        timeout_ms: int | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> SentRequest:
        """Send one request: an input, or 1 to 64 answered together.

        An input is a text, or a `TypedInput` (or mapping): a text pair, a ready-made embedding, an image by reference.
        `query` and `top_n` belong to the task `rerank`, `generation` to `generate`.

        Requests with the same `key` (user, session, query) keep their order. `timeout_ms` after arriving at Kafka an
        answer is of no more use. `request_id` is your own name for it, made when not given; `traceparent` is a W3C
        trace context. Raises InvalidRequest at once when something is wrong with it, RetryLater when there is no room.

        Blocks, also in asyncio: at the first call while it connects, unless `open` did; later for as long as there is
        no room (`block_seconds`), or the client's own buffer is full (30 s at most).
        """
        values = {
            "input": list(input) if isinstance(input, tuple) else input,
            "scenario": scenario,
            "task": task,
            "query": query,
            "top_n": top_n,
            "encoding_format": encoding_format,
            "generation": generation,
            "timeout_ms": timeout_ms,
        }
        try:
            request = InferenceRequested.model_validate(values)
        except ValidationError as error:
            raise InvalidRequest(_in_words(error)) from None
        return self.send_request(
            request, key=key, request_id=request_id, traceparent=traceparent, on_delivery=on_delivery
        )

    def send_request(
        self,
        request: InferenceRequested,
        *,
        key: str | bytes | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> SentRequest:
        """As `send`, for a request that is made already."""
        key_bytes = _key_bytes(key)
        now_ms = self._clock.now_ms()
        request_id = uuid7(now_ms, self._random_bytes(RANDOM_BYTES)) if request_id is None else request_id
        _check_name("request_id", request_id)
        if traceparent is not None and traceparent_of({"traceparent": traceparent}) is None:
            raise InvalidRequest(f"traceparent: {traceparent!r} is no W3C trace context (00-<32 hex>-<16 hex>-<2 hex>)")
        value = encode(request)
        size = len(value) + len(key_bytes or b"")
        if size > REQUEST_BYTES_MAX:
            raise InvalidRequest(f"input: {size} bytes as JSON, at most {REQUEST_BYTES_MAX} are taken")
        headers = headers_for(
            request,
            event_id=request_id,
            source=self._source,
            time=datetime.fromtimestamp(now_ms / 1000, UTC),
            traceparent=traceparent,
        )
        return self._hand_over(SentRequest(request_id), value, key_bytes, headers, on_delivery)

    def _hand_over(
        self,
        sent: SentRequest,
        value: bytes,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        on_delivery: OnDelivery | None,
    ) -> SentRequest:
        publisher, topic = self._opened()
        size = len(value) + len(key or b"")
        if not self._pending.take(size, self._block_seconds):
            raise RetryLater(
                f"no room for another request within {self._block_seconds:g} s: Kafka takes them more slowly than they "
                "are sent, or is away. Send more slowly, or try again"
            )
        partition = self._partition(key, topic.partitions)

        def delivered(offset: int | None, error: Exception | None) -> None:
            self._pending.give(size, delivered=error is None)
            identity = None
            if error is None:
                identity = Identity(
                    cluster_id=topic.cluster_id, topic_id=topic.topic_id, partition=partition, offset=offset or 0
                )
            self._settle(sent, identity, error, on_delivery)

        try:
            publisher.publish(
                REQUESTS.name, value, key=key, partition=partition, headers=headers, on_delivery=delivered
            )
        except BaseException:
            self._pending.take_back(size)
            raise
        return sent

    def _partition(self, key: bytes | None, partitions: int) -> int:
        if key is not None:
            return partition_of(key, partitions)
        with self._lock:
            self._keyless += 1
            return partition_of_turn(self._keyless - 1, partitions)

    def _settle(
        self, sent: SentRequest, identity: Identity | None, error: Exception | None, on_delivery: OnDelivery | None
    ) -> None:
        if error is not None:
            kind = InvalidRecord if isinstance(error, InvalidRecord) else NotDelivered
            error = kind(f"request {sent.request_id} was not delivered: {error}")
            if not self._failure_logged:
                self._failure_logged = True
                LOG.warning("%s (further failures are counted, see Producer.counts)", error)
        sent.settle(identity, error)
        if on_delivery is not None:
            try:
                on_delivery(identity, error)
            except Exception:
                LOG.exception("on_delivery of request %s raised", sent.request_id)

    @property
    def counts(self) -> Counts:
        """Requests sent, delivered and failed so far."""
        return self._pending.counts()

    def flush(self, timeout: float = 10.0) -> int:
        """Wait at most `timeout` seconds until all is delivered or failed; returns how many are still on their way."""
        publisher = self._publisher
        return 0 if publisher is None else publisher.flush(timeout)

    def close(self, timeout: float = 10.0) -> int:
        """Flush and disconnect; `send` then raises RuntimeError. Returns how many could not be delivered in time."""
        with self._lock:
            publisher, self._closed = self._publisher, True
        if publisher is None:
            return 0
        return publisher.close(timeout) if self._owns_publisher else publisher.flush(timeout)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = self.close()
        if left and kind is None:
            raise NotDelivered(f"{left} requests were not delivered before the producer was closed")


def request_topic(settings: KafkaSettings) -> RequestTopic:
    """Ask the cluster for the request topic. Raises RetryLater when the cluster or the topic is not there."""
    from infra.kafka import KafkaCluster

    cluster = KafkaCluster(settings)
    try:
        partitions = cluster.partitions(REQUESTS.name)
        if not partitions:
            raise RetryLater(f"there is no topic {REQUESTS.name}: `inferwatch topics apply` makes it")
        return RequestTopic(cluster.cluster_id, cluster.topic_id(REQUESTS.name), partitions)
    finally:
        cluster.close()


def _check_name(field: str, name: str) -> None:
    if not name or len(name) > NAME_CHARACTERS_MAX:
        raise InvalidRequest(f"{field}: {str(name)[:40]!r} is not a text of 1 to {NAME_CHARACTERS_MAX} characters")
    if any(ord(c) < 32 or 0xD800 <= ord(c) <= 0xDFFF for c in name):
        raise InvalidRequest(f"{field}: {name[:40]!r} has control characters or lone surrogates")


def _key_bytes(key: str | bytes | None) -> bytes | None:
    try:
        return key.encode() if isinstance(key, str) else key
    except UnicodeEncodeError:
        raise InvalidRequest("key: a lone surrogate is no text") from None


def _in_words(error: ValidationError) -> str:
    # A text that fits neither branch of `input` is reported once per branch: say each field once.
    found: dict[str, str] = {}
    for one in error.errors(include_url=False, include_input=False):
        found.setdefault(str(one["loc"][0]) if one["loc"] else "request", one["msg"])
    return "; ".join(f"{field}: {message}" for field, message in found.items())

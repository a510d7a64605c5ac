"""What all Kafka clients share: settings for librdkafka, errors sorted into their fates, records from messages."""

from __future__ import annotations

import logging
import operator
import threading
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from infra.ports import Fatal, InvalidRecord, Record, RetryLater, TryAgain
from infra.settings import KafkaSettings
from schemas.base import UNREADABLE_HEADERS, Headers

LOG = logging.getLogger(__name__)
REQUEST_SECONDS = 10.0
"""Longest wait for one answer of the cluster."""
START_ERRORS = frozenset(
    {
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._RESOLVE,
    }
)
"""Codes that pass by themselves: a broker that starts, moves or is away."""
_ask_headers = operator.methodcaller("headers")
"""Not `message.headers()`: for a bad name the client returns a result *and* sets an error. Called directly, a warm
interpreter does not look, and the error comes up in some later line; called through C, it is always raised here."""


def client_config(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """librdkafka settings common to all clients. Raises TryAgain without servers."""
    if settings.bootstrap_servers is None:
        raise TryAgain("no Kafka: set INFERWATCH_KAFKA_BOOTSTRAP_SERVERS, or run `make up` first")
    config: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": client_id,
        "security.protocol": settings.security_protocol.lower(),
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1_000,
        # A connection that died without a word is left after so long, not after a minute: a member of a group can be
        # well by its connection to the coordinator while the one that it fetches on is dead.
        "socket.timeout.ms": 20_000,
        "socket.keepalive.enable": True,
        "topic.metadata.refresh.interval.ms": 10_000,
        "log.connection.close": False,
        "allow.auto.create.topics": False,
    }
    if settings.security_protocol.startswith("SASL") and settings.sasl_password is not None:
        config["sasl.mechanism"] = settings.sasl_mechanism
        config["sasl.username"] = settings.sasl_username
        config["sasl.password"] = settings.sasl_password.get_secret_value()
    files = {
        "ssl.ca.location": settings.ssl_ca_location,
        "ssl.certificate.location": settings.ssl_certificate_location,
        "ssl.key.location": settings.ssl_key_location,
    }
    config.update({name: str(path) for name, path in files.items() if path is not None})
    if settings.ssl_key_password is not None:
        config["ssl.key.password"] = settings.ssl_key_password.get_secret_value()
    return config


def groupless_config(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """For a consumer that is in no group and commits nothing. Raises TryAgain without servers."""
    return client_config(settings, client_id) | {
        "group.id": "inferwatch-groupless",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": False,
        "queued.max.messages.kbytes": 16_384,
    }


ELECTING = (
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.OFFSET_NOT_AVAILABLE,
)
"""What a broker that has just started says of a partition: over in a moment."""


class Electing(RetryLater):
    """A partition's leader is not settled yet."""


def sorted_error(error: KafkaException, where: str) -> Exception:
    """The fate of a failure: InvalidRecord when the data is refused for good, Fatal when the client is of no more
    use, RetryLater for the rest."""
    inner: KafkaError = error.args[0]
    text = f"{where}: {inner.str()} ({inner.name()})"
    if inner.fatal() or inner.code() == KafkaError._FATAL:
        return Fatal(text)
    if inner.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD):
        return InvalidRecord(text)
    return Electing(text) if inner.code() in ELECTING else RetryLater(text)


def within(seconds: float, call: Callable[[], object], what: str) -> None:
    """Make a call of the client that has no limit of its own: it waits for as long as a broker is silent.

    Raises RetryLater when it has not returned in time; it is then left behind on a thread that ends with the process.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # whatever it is, it is raised where it was asked for
            failures.append(error)

    thread = threading.Thread(target=run, name=what, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise RetryLater(f"{what}: no answer within {seconds:g} s")
    if failures:
        raise failures[0]


def consume(consumer: Consumer, count_max: int, timeout_seconds: float) -> list[Record]:
    """The records of `polled`. Raises RetryLater and Fatal, see `records_of`."""
    return records_of(polled(consumer, count_max, timeout_seconds))


def polled(consumer: Consumer, count_max: int, timeout_seconds: float) -> list[Message]:
    """Up to `count_max` messages, waiting at most `timeout_seconds` for the first and not at all for more.

    librdkafka's own `consume` waits the whole time out unless all `count_max` are there.
    """
    messages = consumer.consume(1, timeout_seconds)
    if messages and count_max > 1:
        messages += consumer.consume(count_max - 1, 0.0)
    return messages


def records_of(messages: Sequence[Message]) -> list[Record]:
    """Records of polled messages. Errors that pass by themselves are logged; another one is raised as RetryLater when
    there is no record with it: the position has moved past the records, so they must not be lost with the error."""
    records = []
    failure: KafkaError | None = None
    for message in messages:
        error = message.error()
        if error is None:
            records.append(
                Record(
                    message.topic() or "",
                    message.partition() or 0,
                    message.offset() or 0,
                    message.timestamp()[1],
                    message.key(),
                    message.value(),
                    _headers_of(message),
                )
            )
        elif error.code() != KafkaError._PARTITION_EOF:
            LOG.info("kafka: %s", error.str())
            if not error.retriable() and error.code() not in START_ERRORS | {KafkaError.UNKNOWN_TOPIC_OR_PART}:
                failure = error
    if failure is not None and not records:
        raise sorted_error(KafkaException(failure), "poll")
    return records


def _headers_of(message: Message) -> Headers:
    """The headers, asked for once: after a name that is not UTF-8, the client hands out a broken list."""
    try:
        return tuple(_ask_headers(message) or ())
    except (SystemError, UnicodeDecodeError):
        return UNREADABLE_HEADERS

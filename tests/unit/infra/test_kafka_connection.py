"""What all Kafka clients share: credentials reach librdkafka, errors find their fate, no message kills a reader."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from infra.kafka import connection, publisher
from infra.kafka.connection import client_config, records_of, sorted_error
from infra.ports import Fatal, InvalidRecord, RetryLater, TryAgain
from infra.settings import KafkaSettings
from schemas.base import DecodeError, Reason, decode
from schemas.dead_letters import DeadLetter
from schemas.requests import InferenceRequested


class FakeMessage:
    """A polled message; `headers` may be an exception to raise."""

    def __init__(self, headers, value=b'{"input": "a"}'):
        self._headers, self._value = headers, value
        self.asked = 0

    def error(self):
        return None

    def headers(self):
        self.asked += 1
        if isinstance(self._headers, Exception):
            raise self._headers
        return self._headers

    topic, partition, offset = (lambda self: "t"), (lambda self: 3), (lambda self: 7)
    timestamp, key, value = (lambda self: (1, 1_000)), (lambda self: b"k"), (lambda self: self._value)


@pytest.mark.parametrize(
    "raised", [SystemError("returned a result with an exception set"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no")]
)
def test_a_header_name_that_is_not_utf8_makes_a_dead_letter_and_no_crash(raised):
    bad = FakeMessage(raised)
    before, record, after = records_of([FakeMessage(None), bad, FakeMessage([("x", b"1")])])
    assert (before.headers, after.headers, bad.asked) == ((), (("x", b"1"),), 1)
    with pytest.raises(DecodeError) as caught:
        decode(record.headers, record.value, (InferenceRequested,), plain=InferenceRequested)
    assert (caught.value.reason, caught.value.detail) == (Reason.WRONG_HEADERS, "a header's name is not UTF-8")
    letter = DeadLetter.of(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        stage="worker",
        reason=caught.value.reason,
        detail=caught.value.detail,
        key=record.key,
        value=record.value,
        headers=record.headers,
        value_bytes_max=1_000,
    )
    assert (letter.key, letter.value, letter.headers) == (b"k", record.value, ())
    assert letter.detail == "a header's name is not UTF-8"


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), InvalidRecord),
        (KafkaError(KafkaError.INVALID_RECORD), InvalidRecord),
        (KafkaError(KafkaError._TRANSPORT), RetryLater),
        (KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), RetryLater),
        (KafkaError(KafkaError._FATAL), Fatal),
        (KafkaError(KafkaError.INVALID_PRODUCER_EPOCH, "fenced", fatal=True), Fatal),
        (KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "and the client is broken", fatal=True), Fatal),
    ],
)
def test_an_error_has_its_fate(error, fate):
    assert type(sorted_error(KafkaException(error), "t")) is fate


def test_a_publisher_that_is_broken_for_good_says_so(monkeypatch):
    class Broken:
        def __init__(self, config, logger):
            pass

        def produce(self, topic, **arguments):
            if "on_delivery" not in arguments:
                raise KafkaException(KafkaError(KafkaError._FATAL, "fenced", fatal=True))
            arguments["on_delivery"](KafkaError(KafkaError._FATAL, "fenced", fatal=True), FakeMessage(None))

        def poll(self, seconds):
            return 0

        def flush(self, seconds):
            return 0

    monkeypatch.setattr(publisher, "Producer", Broken)
    kafka = publisher.KafkaPublisher(KafkaSettings(bootstrap_servers="localhost:9"), client_id="t")
    seen = []
    with pytest.raises(Fatal, match="fenced"):
        kafka.publish("t", b"v")
    kafka.publish("t", b"v", on_delivery=lambda offset, error: seen.append((offset, type(error))))
    assert seen == [(None, Fatal)]
    kafka.close()


def test_plain_text_needs_no_credentials(monkeypatch):
    monkeypatch.delenv("INFERWATCH_KAFKA_SASL_PASSWORD", raising=False)
    config = client_config(KafkaSettings(bootstrap_servers="a:1,b:2"), "me")
    assert (config["bootstrap.servers"], config["client.id"]) == ("a:1,b:2", "me")
    assert config["security.protocol"] == "plaintext"
    assert not [name for name in config if name.startswith(("sasl.", "ssl."))]
    with pytest.raises(TryAgain, match="INFERWATCH_KAFKA_BOOTSTRAP_SERVERS"):
        client_config(KafkaSettings(bootstrap_servers=None), "me")


def test_tls_and_sasl_reach_the_client(tmp_path):
    for name in ("ca.pem", "mine.pem", "mine.key"):
        (tmp_path / name).touch()
    settings = KafkaSettings(
        bootstrap_servers="a:1",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_username="shop",
        sasl_password="hunter2",
        ssl_ca_location=tmp_path / "ca.pem",
        ssl_certificate_location=tmp_path / "mine.pem",
        ssl_key_location=tmp_path / "mine.key",
        ssl_key_password="open",
    )
    config = client_config(settings, "me")
    assert {name: value for name, value in config.items() if name.startswith(("security.", "sasl.", "ssl."))} == {
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": "shop",
        "sasl.password": "hunter2",
        "ssl.ca.location": str(tmp_path / "ca.pem"),
        "ssl.certificate.location": str(tmp_path / "mine.pem"),
        "ssl.key.location": str(tmp_path / "mine.key"),
        "ssl.key.password": "open",
    }
    assert "hunter2" not in repr(settings)


def test_a_user_for_sasl_is_not_sent_without_it():
    config = client_config(KafkaSettings(bootstrap_servers="a:1", sasl_username="u", sasl_password="p"), "me")
    assert not [name for name in config if name.startswith("sasl.")]


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SASL_PLAINTEXT"])
def test_librdkafka_takes_the_settings(protocol):
    settings = KafkaSettings(
        bootstrap_servers="127.0.0.1:9", security_protocol=protocol, sasl_username="u", sasl_password="p"
    )
    config = client_config(settings, "me") | {"group.id": "g", "log_level": 0}
    connection.Consumer(config, logger=connection.LOG).close()
    with pytest.raises(KafkaException, match="No such configuration property"):  # so what it does not take is seen
        connection.Consumer(config | {"sasl.user": "u"}, logger=connection.LOG)

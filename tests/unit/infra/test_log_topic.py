"""Log lines on the topic: bounded, never in the way of who logs, and never about themselves."""

import logging
import re
import threading

import pytest

from infra import log_topic
from infra.log_topic import TopicHandler
from infra.logs import traced
from infra.metrics import LOG_RECORDS_DROPPED
from infra.ports import Fatal, RetryLater
from schemas.base import decode
from schemas.logs import LOG_KINDS
from schemas.topics import LOGS
from tests.fakes import FakeBroker, FakeClock, FakePublisher

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def broker():
    return FakeBroker()


@pytest.fixture
def publisher(broker):
    return FakePublisher(broker)


@pytest.fixture
def logger():
    """A logger of this test alone, with no other handlers."""
    logger = logging.getLogger("tests.log_topic")
    logger.propagate = False
    logger.setLevel("DEBUG")
    yield logger
    logger.handlers.clear()


@pytest.fixture
def handler(publisher, logger):
    handler = TopicHandler(publisher, FakeClock(), "w-1")
    logger.addHandler(handler)
    yield handler
    publisher.release()
    handler.close()


def lines(broker):
    return [decode(one.headers, one.value, LOG_KINDS).data for one in broker.of(LOGS.name)]


def dropped(reason):
    return LOG_RECORDS_DROPPED.labels(reason).read()


def test_a_line_becomes_an_event(broker, logger, handler):
    with traced(TRACEPARENT):
        try:
            raise ValueError("bad \ud800 value")
        except ValueError:
            logger.exception("request %s failed", "r" * 20_000)
    logger.debug("below the level")
    handler.flush()
    [line] = lines(broker)
    assert (line.level, line.logger, line.worker_id) == ("ERROR", "tests.log_topic", "w-1")
    assert line.message.startswith("request rrr")
    assert len(line.message) == 8_000
    assert line.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert line.stack.endswith("ValueError: bad ? value")
    assert len(line.fingerprint) == 16
    [record] = broker.of(LOGS.name)
    assert record.key == b"w-1"


def test_every_line_has_an_id_of_its_own(broker, logger, handler):
    for _ in range(3):
        logger.info("again")
    handler.flush()
    assert len({decode(one.headers, one.value, LOG_KINDS).event_id for one in broker.of(LOGS.name)}) == 3


def test_what_publishing_logs_is_not_published(broker, handler):
    for name in ("infra.kafka.connection", "infra.log_topic", "aiokafka.consumer"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.warning("the broker is away")
        logger.removeHandler(handler)
    handler.flush()
    assert lines(broker) == []


def test_a_publisher_that_logs_makes_no_circle(broker, publisher, logger, handler):
    publish = publisher.publish

    def chatty(*arguments, **keywords):
        logger.warning("publishing")
        publish(*arguments, **keywords)

    publisher.publish = chatty
    logger.info("one")
    handler.flush()
    assert [line.message for line in lines(broker)] == ["one"]


def test_a_broker_that_is_away_costs_lines_and_no_time(publisher, logger, monkeypatch, caplog):
    monkeypatch.setattr(log_topic, "QUEUE_LINES_MAX", 10)
    monkeypatch.setattr(log_topic, "UNCONFIRMED_MAX", 5)
    publisher.hold = True
    before = dropped("queue_full")
    clock = FakeClock()
    handler = TopicHandler(publisher, clock, "w-1")
    logger.addHandler(handler)
    for number in range(100):
        logger.info("line %d", number)
    # At most 10 wait, 5 are unconfirmed and one is in the thread's hand.
    lost = dropped("queue_full") - before
    assert lost >= 100 - 16
    handler._closing.set()
    handler._thread.join(5)
    publisher.release()
    clock.advance(60)  # what is lost is said once a minute
    handler._say_dropped()
    assert sum(map(int, re.findall(r"(\d+) log lines did not reach inference.logs", caplog.text))) == lost


def test_what_is_lost_while_losses_are_said_is_said_the_next_time(publisher, caplog, monkeypatch):
    clock = FakeClock()
    handler = TopicHandler(publisher, clock, "w-1")
    handler._closing.set()
    handler._thread.join(5)
    meanwhile = [3, 0]

    def drops_more(record):
        for _ in range(meanwhile.pop(0)):
            handler._drop("queue_full")
        return True

    monkeypatch.setattr(log_topic.LOG, "filters", [drops_more])
    handler._drop("queue_full")
    for _ in range(2):
        clock.advance(60)
        handler._say_dropped()
    said = re.findall(r"(\d+) log lines did not reach inference.logs", caplog.text)
    assert said == ["1", "3"]


def test_what_is_not_delivered_is_counted(publisher, logger, handler):
    before = dropped("not_delivered")
    publisher.fail = [RetryLater("away"), None]
    logger.info("lost")
    logger.info("there")
    handler.flush()
    assert dropped("not_delivered") == before + 1


def test_a_publisher_broken_for_good_ends_it_quietly(publisher, logger, handler):
    def broken(*arguments, **keywords):
        raise Fatal("fenced")

    publisher.publish = broken
    logger.info("one")
    handler._thread.join(5)
    assert not handler._thread.is_alive()
    logger.info("two")
    handler.close()


def test_closing_delivers_what_is_queued(broker, publisher, logger):
    handler = TopicHandler(publisher, FakeClock(), "w-1")
    logger.addHandler(handler)
    for number in range(50):
        logger.info("line %d", number)
    handler.close()
    handler.close()
    logger.info("too late")
    assert len(lines(broker)) == 50


def test_many_threads_lose_nothing(broker, logger, handler):
    def work():
        for number in range(100):
            logger.info("line %d", number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    handler.flush()
    assert len(lines(broker)) == 400


def test_a_line_that_cannot_be_formatted_harms_nobody(broker, logger, handler, capsys):
    handler.handle(logging.LogRecord("a", logging.INFO, __file__, 1, "%d", ("no number",), None))
    logger.info("fine")
    handler.flush()
    assert [line.message for line in lines(broker)] == ["fine"]
    assert "Logging error" in capsys.readouterr().err

"""Questions to a broker that has just started: what is over in a moment is asked again."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from infra.kafka import KafkaCluster, KafkaTopicAdmin, cluster, topic_admin
from infra.ports import RetryLater
from infra.settings import KafkaSettings
from infra.topic_plan import CreateTopic
from schemas.topics import Topic


class Admin:
    """Answers with these errors first, one a question, and then with the offset 7."""

    def __init__(self, *codes):
        self.codes, self.asked = list(codes), 0

    def list_offsets(self, asked, **more):
        self.asked += 1
        code, answers = (self.codes.pop(0) if self.codes else None), {}
        for pair in asked:
            answers[pair] = Future()
            if code is None:
                answers[pair].set_result(SimpleNamespace(offset=7))
            else:
                answers[pair].set_exception(KafkaException(KafkaError(code)))
        return answers


def asking(monkeypatch, admin, seconds):
    monkeypatch.setattr(cluster, "ELECTING_SECONDS", seconds)
    monkeypatch.setattr(cluster, "ELECTING_PAUSE_SECONDS", 0.0)
    asked = KafkaCluster(KafkaSettings(bootstrap_servers="127.0.0.1:1"))
    asked.admin = admin
    return asked


@pytest.mark.parametrize("code", [KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.NOT_LEADER_FOR_PARTITION])
def test_ends_are_asked_for_again_while_a_leader_is_not_settled(monkeypatch, code):
    admin = Admin(code, code)
    assert asking(monkeypatch, admin, 60.0).ends({"t": 2}) == {"t": {0: 7, 1: 7}}
    assert admin.asked == 3


def test_a_leader_that_is_never_settled_is_tried_again_later(monkeypatch):
    admin = Admin(*[KafkaError.UNKNOWN_LEADER_EPOCH] * 1_000)
    with pytest.raises(RetryLater, match="UNKNOWN_LEADER_EPOCH"):
        asking(monkeypatch, admin, -1.0).ends({"t": 1})
    assert admin.asked == 1


def test_other_errors_are_told_at_once(monkeypatch):
    admin = Admin(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(RetryLater, match="TOPIC_AUTHORIZATION_FAILED"):
        asking(monkeypatch, admin, 60.0).ends({"t": 1})
    assert admin.asked == 1


@pytest.mark.parametrize(
    ("code", "is_left"), [(KafkaError._TIMED_OUT, True), (KafkaError._TRANSPORT, False), (KafkaError._RESOLVE, False)]
)
def test_connections_that_did_not_answer_in_time_are_left(monkeypatch, code, is_left):
    admin = Admin(code)
    asked = asking(monkeypatch, admin, 60.0)
    with pytest.raises(RetryLater):
        asked.ends({"t": 1})
    assert (asked.admin is not admin) == is_left


def test_a_client_that_says_nothing_at_all_is_left(monkeypatch):
    monkeypatch.setattr(cluster, "REQUEST_SECONDS", 0.01)
    silent = SimpleNamespace(list_offsets=lambda asked, **more: {pair: Future() for pair in asked})
    asked = asking(monkeypatch, silent, 60.0)
    with pytest.raises(RetryLater, match="no answer in time"):
        asked.ends({"t": 1})
    assert asked.admin is not silent


def test_a_topic_that_is_not_made_in_time_is_tried_again_later_on_new_connections(monkeypatch):
    monkeypatch.setattr(topic_admin, "REQUEST_SECONDS", 0.01)
    topic = Topic("t", "A topic of this test.", (), "none", retention_ms=3_600_000, retention_bytes=2**20)
    silent = SimpleNamespace(create_topics=lambda topics, **more: {one.topic: Future() for one in topics})
    asked = asking(monkeypatch, silent, 60.0)
    with pytest.raises(RetryLater, match="t: no answer in time"):
        KafkaTopicAdmin(asked).carry_out(CreateTopic(topic, 1, 1, topic.config()))
    assert asked.admin is not silent


def test_a_client_that_another_thread_has_replaced_is_not_replaced_again_and_its_open_questions_go_on(monkeypatch):
    slow, quick = Admin(), Admin(KafkaError._TIMED_OUT)
    asked = asking(monkeypatch, slow, 60.0)

    def meanwhile(pairs, **more):
        asked.admin = quick  # another thread was not answered, and has begun anew
        return Admin().list_offsets(pairs)

    slow.list_offsets = meanwhile
    assert asked.ends({"t": 1}) == {"t": {0: 7}}
    assert asked.admin is quick
    asked.admin = slow
    slow.list_offsets = lambda pairs, **more: meanwhile(pairs) and Admin(KafkaError._TIMED_OUT).list_offsets(pairs)
    with pytest.raises(RetryLater):
        asked.ends({"t": 1})
    assert asked.admin is quick


def test_a_reader_that_is_not_answered_says_nothing_of_the_client(monkeypatch):
    def silent(pairs, timeout):
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    asked = asking(monkeypatch, admin := Admin(), 60.0)
    topic = SimpleNamespace(error=None, partitions={0: None})
    admin.list_topics = lambda timeout: SimpleNamespace(topics={"t": topic})
    asked._readers["g"] = SimpleNamespace(committed=silent)
    with pytest.raises(RetryLater, match="_TIMED_OUT"):
        asked.committed("g", "t")
    assert asked.admin is admin
    assert "g" not in asked._readers, "another one finds the coordinator that there is then"

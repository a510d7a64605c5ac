"""Ids of topics: asked for once an assignment, waited for while the cluster does not answer."""

from inference_workers.topic_ids import RETRY_SECONDS, TopicIds
from infra.ports import RetryLater
from tests.fakes import FakeClock


class Cluster:
    def __init__(self):
        self.asked, self.is_away, self.id = [], False, "first"

    def __call__(self, topic):
        self.asked.append(topic)
        if self.is_away:
            raise RetryLater("no broker")
        return "cluster", self.id


def test_a_topic_is_asked_for_once_for_all_its_partitions():
    cluster = Cluster()
    ids = TopicIds(cluster, FakeClock())
    ids.want("t", 0)
    ids.want("t", 1)
    assert ids.all_known()
    ids.want("t", 0)
    assert ids.all_known()
    assert (ids.of("t", 1), cluster.asked) == (("cluster", "first"), ["t"])


def test_a_topic_that_is_assigned_again_may_be_another():
    cluster = Cluster()
    ids = TopicIds(cluster, FakeClock())
    ids.want("t", 0)
    ids.all_known()
    cluster.id = "second"
    ids.ask_again({("t", 0)}, in_hand={("t", 0)})
    assert ids.all_known()
    assert ids.of("t", 0) == ("cluster", "second")


def test_a_cluster_that_is_away_is_asked_again_after_a_moment():
    cluster, clock = Cluster(), FakeClock()
    ids = TopicIds(cluster, clock)
    cluster.is_away = True
    ids.want("t", 0)
    assert not ids.all_known()
    cluster.is_away = False
    assert (ids.may_ask(), ids.all_known(), cluster.asked) == (False, False, ["t"])
    clock.advance(RETRY_SECONDS)
    assert ids.all_known()


def test_what_was_dropped_is_not_asked_for():
    cluster = Cluster()
    ids = TopicIds(cluster, FakeClock())
    ids.want("t", 0)
    ids.drop({("t", 0)})
    assert (ids.all_known(), cluster.asked) == (True, [])

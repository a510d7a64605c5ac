from infra.ports import RetryLater
from stream_jobs.request_log import ASK_AGAIN_SECONDS, TRUSTED_SECONDS, KafkaRequestLog
from tests.fakes import FakeClock


class Cluster:
    """Answers, and counts how often it was asked for the topic's id."""

    cluster_id = "c"

    def __init__(self):
        self.id, self.ends, self.away, self.asked = "t1", {0: 10}, False, 0

    def topic_id(self, topic):
        self.asked += 1
        if self.away:
            raise RetryLater("away")
        return self.id

    def ranges(self, topic):
        return {number: (0, end) for number, end in self.ends.items()}


def test_a_topic_that_was_made_anew_is_known_at_once_and_others_cost_a_question_a_second():
    cluster, clock = Cluster(), FakeClock()
    log = KafkaRequestLog(cluster, "inference.requests", clock)
    assert log.is_known("c", "t1")
    clock.advance(ASK_AGAIN_SECONDS)
    cluster.id = "t2"
    assert log.is_known("c", "t2")
    asked = cluster.asked
    assert not any(log.is_known("c", f"forged-{number}") for number in range(100))
    assert cluster.asked == asked
    clock.advance(ASK_AGAIN_SECONDS)
    cluster.away = True
    assert not log.is_known("other", "t2")
    assert log.is_known("c", "t1")


def test_ends_are_told_while_they_are_fresh_and_of_the_topic_that_is_there_now():
    cluster, clock = Cluster(), FakeClock()
    log = KafkaRequestLog(cluster, "inference.requests", clock)
    assert log.end("c", "t1", 0) is None
    log.refresh()
    assert (log.end("c", "t1", 0), log.end("c", "t1", 1), log.end("c", "t2", 0)) == (10, None, None)
    clock.advance(TRUSTED_SECONDS + 1)
    assert log.end("c", "t1", 0) is None
    cluster.id, cluster.ends = "t2", {0: 3}
    log.refresh()
    assert (log.end("c", "t2", 0), log.end("c", "t1", 0)) == (3, None)

"""A worker whose request topic was made anew stops; one that cannot see the topic goes on."""

import threading

from inference_workers.worker.made_anew import MadeAnewWatch
from infra.ports import RetryLater


class Cluster:
    def __init__(self, *answers):
        self.answers = list(answers)

    def topic_id(self, topic):
        assert topic == "requests"
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def looked(*answers, looks):
    stop = threading.Event()
    left = iter([False] * looks + [True])
    watch = MadeAnewWatch(Cluster(*answers), "requests", stop, "one")
    watch.run(lambda seconds: next(left))
    return watch.seen, stop.is_set()


def test_another_id_stops_the_worker_and_says_why():
    seen, stopped = looked("one", RetryLater("away"), "two", looks=9)
    assert stopped
    assert "requests was made anew: it was one and is two" in seen


def test_the_same_id_or_none_for_a_while_is_no_reason():
    assert looked("one", RetryLater("deleted"), RetryLater("deleted"), "one", looks=4) == ("", False)

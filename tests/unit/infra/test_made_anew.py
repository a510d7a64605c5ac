"""A process whose topic was made anew stops; one that cannot see the topic goes on."""

from infra.made_anew import MadeAnewWatch
from infra.ports import RetryLater


class Cluster:
    def __init__(self, *answers):
        self.answers = list(answers)

    def topic_id(self, topic):
        if topic == "quiet":
            return "always"
        assert topic == "requests"
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def looked(*answers, looks):
    stops = []
    left = iter([False] * looks + [True])
    watch = MadeAnewWatch(Cluster(*answers), {"quiet": "always", "requests": "one"}, lambda: stops.append(True))
    watch.run(lambda seconds: next(left))
    return watch.seen, len(stops)


def test_another_id_stops_the_process_once_and_says_why():
    seen, stops = looked("one", RetryLater("away"), "two", looks=9)
    assert stops == 1
    assert "requests was made anew: it was one and is two" in seen


def test_the_same_id_or_none_for_a_while_is_no_reason():
    assert looked("one", RetryLater("deleted"), RetryLater("deleted"), "one", looks=4) == ("", 0)

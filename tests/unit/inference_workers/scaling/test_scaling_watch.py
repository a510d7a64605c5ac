"""The look at the group: lag and arrivals from offsets, and no harm from a broker that is away."""

import threading

import pytest

from inference_workers.scaling.policy import Reason, ScalingPolicy
from inference_workers.scaling.watch import Arrivals, GroupState, ScalingWatch, group_state
from infra import metrics
from infra.ports import RetryLater
from tests.fakes import FakeClock

POLICY = ScalingPolicy(grow_seconds=0, shrink_seconds=0)


class FakeCluster:
    def __init__(self):
        self.ranges_, self.committed_, self.members_, self.away = {0: (0, 0), 1: (0, 0)}, {}, 1, False

    def _ask(self, value):
        if self.away:
            raise RetryLater("away")
        return value

    def ranges(self, topic):
        return self._ask(self.ranges_)

    def committed(self, group, topic):
        return self._ask(self.committed_)

    def members(self, group):
        return self._ask(self.members_)


@pytest.fixture
def cluster():
    return FakeCluster()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def watch(cluster, clock):
    return ScalingWatch(cluster, "g", "t", lambda: 100.0, POLICY, clock)


@pytest.mark.parametrize(
    ("ranges", "committed", "lag"),
    [
        ({0: (0, 10), 1: (0, 5)}, {0: 4, 1: 5}, 6),
        ({0: (3, 10)}, {}, 7),  # nothing committed: it begins at the first record kept
        ({0: (8, 10)}, {0: 2}, 2),  # what was deleted before it was read is lag no more
        ({0: (0, 10)}, {0: 12}, 0),  # the topic was made anew
        ({}, {}, 0),
    ],
)
def test_the_lag_is_what_is_appended_and_not_committed(cluster, ranges, committed, lag):
    cluster.ranges_, cluster.committed_, cluster.members_ = ranges, committed, 3
    appended = sum(end for _, end in ranges.values())
    assert group_state(cluster, "g", "t") == GroupState(lag, appended, 3, len(ranges))


def test_arrivals_are_counted_over_half_a_minute():
    arrivals = Arrivals()
    assert arrivals.rate(1_000, 0.0) is None
    assert arrivals.rate(1_100, 5.0) == pytest.approx(20.0)
    for second in range(10, 100, 5):
        rate = arrivals.rate(1_100 + 50 * second, float(second))
    assert rate == pytest.approx(50.0)
    assert arrivals.rate(3, 100.0) is None  # the topic was made anew
    assert arrivals.rate(13, 105.0) == pytest.approx(2.0)


def test_it_tells_by_metric_and_in_words(cluster, clock, watch, caplog):
    caplog.set_level("INFO")
    assert watch.details() == {}
    assert watch.look().reason is Reason.LAG_UNKNOWN  # one count is no rate
    clock.advance(5)
    cluster.ranges_, cluster.committed_ = {0: (0, 1_000), 1: (0, 500)}, {0: 1_000, 1: 500}
    watch.look()
    clock.advance(5)
    cluster.ranges_ = {0: (0, 2_000), 1: (0, 1_000)}
    cluster.committed_ = {0: 2_000, 1: 1_000}
    wanted = watch.look()
    assert (wanted.workers, wanted.reason) == (2, Reason.AT_PARTITIONS)
    assert metrics.DESIRED_WORKERS.labels().read() == 2
    reasons = {values[0]: cell.read() for values, cell in metrics.DESIRED_WORKERS_REASON.cells()}
    assert reasons == {reason.value: float(reason is Reason.AT_PARTITIONS) for reason in Reason}
    assert watch.details()["scaling"] == {
        "desired_workers": 2,
        "reason": "at_partitions",
        "words": wanted.words,
        "workers": 1,
        "lag": 0,
        "arrivals_per_second": 300.0,
        "service_per_second": 100.0,
    }
    assert caplog.text.count("wanted: 2 workers") == 1


def test_a_broker_that_is_away_changes_nothing_and_is_said_once(cluster, clock, watch, caplog):
    caplog.set_level("INFO")
    cluster.away = True
    assert watch.look() is None
    cluster.away = False
    watch.look()
    cluster.away = True
    for _ in range(5):
        clock.advance(5)
        wanted = watch.look()
    assert (wanted.workers, wanted.reason) == (1, Reason.LAG_UNKNOWN)
    assert metrics.GROUP_LAG.labels().read() is None
    assert caplog.text.count("the group's lag is not known") == 2


def test_without_the_topic_nothing_is_said(cluster, watch):
    cluster.ranges_ = {}
    assert watch.look() is None


def test_the_thread_goes_on_after_an_error_nobody_foresaw(cluster, clock, watch, caplog):
    looked, stop = threading.Event(), threading.Event()
    looks = []

    def ranges(topic):
        looks.append(topic)
        if len(looks) > 2:
            looked.set()
        raise TypeError("nobody foresaw this")

    cluster.ranges = ranges
    watch.start(0.01, stop)
    assert looked.wait(5)
    stop.set()
    assert "nobody foresaw this" in caplog.text

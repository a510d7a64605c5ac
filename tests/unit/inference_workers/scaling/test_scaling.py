"""How many workers are wanted, and in which words."""

import itertools

import pytest

from inference_workers.scaling.policy import Demand, Reason, ScalingPolicy, ScalingState
from inference_workers.scaling.settings import ScalingSettings
from infra.settings import SettingsError, load

AT_ONCE = ScalingPolicy(target_seconds=10, grow_seconds=0, shrink_seconds=0, workers_max=8, commit_seconds=1)


def after(policy, demands, seconds=5.0):
    state = ScalingState(policy)
    return [state.update(Demand(*one), seconds * number) for number, one in enumerate(demands)]


def at_once(**demand):
    """The answer at the second look: the first one only remembers."""
    known = {"lag": 0, "arrivals": 0.0, "service": 100.0, "workers": 1, "partitions": 12} | demand
    state = ScalingState(AT_ONCE)
    state.update(Demand(**known), 0.0)
    return state.update(Demand(**known), 1.0)


@pytest.mark.parametrize(
    ("demand", "workers", "reason", "words"),
    [
        ({}, 1, Reason.IDLE, "1 worker: nothing arrives and nothing waits"),
        (
            {"arrivals": 240.0, "lag": 240},
            3,
            Reason.ARRIVALS,
            "3 workers: 240/s arrive, one does 100/s: 3.00 have 80% of their time to do",
        ),
        (
            {"arrivals": 200.0, "lag": 2_200},
            4,
            Reason.LAG,
            "4 workers: 2,000 requests wait and 200/s arrive, one does 100/s: 4.00 are done with them in 10 s",
        ),
        (
            {"arrivals": 2_000.0},
            8,
            Reason.AT_MAXIMUM,
            "8 workers: 2,000/s arrive, one does 100/s: 25.00 have 80% of their time to do; 8 is the most that is "
            "allowed",
        ),
        (
            {"arrivals": 2_000.0, "partitions": 6},
            6,
            Reason.AT_PARTITIONS,
            "6 workers: 2,000/s arrive, one does 100/s: 25.00 have 80% of their time to do; the topic has 6 partitions "
            "and a worker beyond would get none; more need more partitions",
        ),
        (
            {"arrivals": 255.0, "workers": 3},
            3,
            Reason.ARRIVALS,
            "3 workers: 255/s arrive, one does 100/s: 3.19 have 80% of their time to do, near enough to those there "
            "are",
        ),
        ({"lag": None}, 1, Reason.LAG_UNKNOWN, "1 worker as before: the group's lag and what arrives are not known"),
        (
            {"arrivals": 5.0, "service": None, "workers": 2},
            2,
            Reason.RATE_UNKNOWN,
            "2 workers as before: what one worker can do is not known yet",
        ),
    ],
)
def test_how_many_and_why(demand, workers, reason, words):
    found = at_once(**demand)
    assert (found.workers, found.reason, found.words) == (workers, reason, words)


def test_what_arrived_since_the_last_commit_is_no_lag():
    assert at_once(arrivals=300.0, lag=300, workers=4).reason is Reason.ARRIVALS


def test_a_least_number_is_kept():
    policy = ScalingPolicy(workers_min=3, grow_seconds=0)
    found = after(policy, [(0, 100.0, 100.0, 3, 12)] * 2)[-1]
    assert (found.workers, found.reason) == (3, Reason.AT_MINIMUM)
    # More than there are partitions are of no use, whatever is asked for.
    assert after(policy, [(0, 100.0, 100.0, 3, 2)] * 2)[-1].workers == 2


def test_one_look_is_no_reason_to_grow_and_a_lull_is_none_to_shrink():
    policy = ScalingPolicy(grow_seconds=15, shrink_seconds=60)
    calm, storm = (0, 50.0, 100.0, 1, 12), (0, 500.0, 100.0, 1, 12)
    found = after(policy, [calm, storm, calm, storm, storm, storm, storm, calm, *[calm] * 11, calm, calm])
    assert [one.workers for one in found] == [1, 1, 1, 1, 1, 1, 7, 7, *[7] * 11, 1, 1]
    assert found[1].reason is Reason.GROWING_SOON
    assert found[1].words.startswith("1 worker now, 7 workers when that holds for 15 s: 500/s arrive")
    assert found[7].reason is Reason.SHRINKING_SOON
    assert found[7].words.startswith("7 workers still, 1 worker when nothing more was needed for 60 s: 50/s arrive")


def test_the_first_look_after_an_outage_is_no_reason_to_grow():
    policy = ScalingPolicy(grow_seconds=15)
    calm, away, storm = (0, 50.0, 100.0, 1, 12), (None, None, 100.0, 1, 12), (0, 500.0, 100.0, 1, 12)
    found = after(policy, [calm, *[away] * 100, storm])
    assert (found[-1].workers, found[-1].reason) == (1, Reason.GROWING_SOON)


def test_fewer_partitions_than_before_hold_at_once():
    found = after(ScalingPolicy(grow_seconds=0), [(0, 500.0, 100.0, 7, 12)] * 2 + [(0, 500.0, 100.0, 7, 3)])
    assert [one.workers for one in found] == [7, 7, 3]


class Group:
    """A group of workers in time: arrivals come, `rate` a worker are done, workers take time to start."""

    def __init__(self, rate, partitions, start_seconds):
        self.rate, self.partitions, self.start_seconds = rate, partitions, start_seconds
        self.lag, self.now, self.workers, self.coming = 0.0, 0.0, 1, []

    def second(self, arrivals):
        self.now += 1
        self.coming = [due for due in self.coming if due > self.now or self.start()]
        useful = min(self.workers, self.partitions)
        self.lag = max(0.0, self.lag + arrivals - useful * self.rate)

    def start(self):
        self.workers += 1
        return False

    def scale(self, count):
        self.workers = min(self.workers, count)
        self.coming = self.coming[: max(0, count - self.workers)]
        missing = count - self.workers - len(self.coming)
        self.coming += [self.now + self.start_seconds] * missing


def test_it_follows_a_rise_and_a_fall_of_load_without_flapping():
    group = Group(rate=100.0, partitions=12, start_seconds=20.0)
    state = ScalingState(ScalingPolicy(target_seconds=5, grow_seconds=15, shrink_seconds=120))
    load = [50.0] * 120 + [50.0 + second * 2.5 for second in range(300)] + [800.0] * 300 + [50.0] * 600
    counts, lags, reasons = [], [], set()
    for arrivals in load:
        noise = 1.0 + 0.2 * ((group.now * 7919) % 13 - 6) / 6  # what is measured jumps about
        group.second(arrivals)
        if group.now % 5 == 0:
            demand = Demand(round(group.lag + arrivals), arrivals * noise, group.rate, group.workers, group.partitions)
            found = state.update(demand, group.now)
            group.scale(found.workers)
            reasons.add(found.reason)
        counts.append(group.workers)
        lags.append(group.lag)
    assert counts[119] == 1
    assert max(counts[420:720]) <= 12
    assert 10 <= counts[719] <= 12  # 800 a second at 80 % are 10 workers
    assert max(lags[500:720]) / 800 < 5  # after the rise all that waits is done within the target
    assert counts[-1] == 1
    changes = [b - a for a, b in itertools.pairwise(counts) if a != b]
    turns = sum(1 for a, b in itertools.pairwise(changes) if (a > 0) != (b > 0))
    assert turns == 1  # up, then down
    assert {Reason.ARRIVALS, Reason.GROWING_SOON, Reason.SHRINKING_SOON} <= reasons


def test_a_backlog_is_worked_off_within_the_target_once_the_workers_are_there():
    group = Group(rate=100.0, partitions=50, start_seconds=0.0)
    group.lag = 20_000.0
    state = ScalingState(ScalingPolicy(target_seconds=10, grow_seconds=5, shrink_seconds=60))
    for _ in range(200):
        group.second(100.0)
        if group.now % 5 == 0:
            demand = Demand(round(group.lag + 100), 100.0, group.rate, group.workers, group.partitions)
            group.scale(state.update(demand, group.now).workers)
        if group.lag == 0:
            break
    assert group.now <= 5 + 5 + 10 + 5
    assert group.workers >= 21


def test_settings_that_contradict_are_refused():
    assert load(ScalingSettings).policy == ScalingPolicy()
    with pytest.raises(SettingsError, match="INFERWATCH_SCALING_WORKERS_MIN"):
        load(ScalingSettings, workers_min=3, workers_max=2)

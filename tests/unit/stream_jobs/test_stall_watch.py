import asyncio
from dataclasses import replace

import pytest

from infra.ports import RetryLater
from stream_jobs.stall_watch import STALLED_LOOKS, Progress, StallWatch, look
from tests.unit.stream_jobs.test_score_job_stop import Job as ScoreJobOnFakes

BUSY = Progress(done=5, behind=10, is_member=True, is_waiting=False)


def looks(*seen):
    watch = StallWatch()
    return [watch.look(one) for one in seen]


def test_a_job_that_has_work_and_does_none_must_end():
    said = looks(*[BUSY] * (STALLED_LOOKS + 1))
    assert said[:-1] == [""] * STALLED_LOOKS
    assert said[-1] == "nothing was done in 18 looks, though 10 records are there and Kafka answers"


def test_a_job_that_the_group_has_forgotten_must_end():
    said = looks(*[replace(BUSY, behind=0, is_member=False)] * (STALLED_LOOKS + 1))
    assert "the group has not told it its partitions" in said[-1]


@pytest.mark.parametrize(
    "seen",
    [
        [replace(BUSY, done=number) for number in range(60)],  # slow, but it works
        [replace(BUSY, behind=0)] * 60,  # nothing to do
        [replace(BUSY, is_waiting=True)] * 60,  # ClickHouse is away, or Kafka takes no events
        [None] * 60,  # Kafka does not answer, or the job starts or stops
        [BUSY] * STALLED_LOOKS + [None] + [BUSY] * STALLED_LOOKS,
    ],
)
def test_any_other_job_goes_on(seen):
    assert set(looks(*seen)) == {""}


class Cluster:
    """One topic of two partitions that end at 4; two of its records are gone."""

    def __init__(self):
        self.id, self.count = "t1", 2

    def topic_id(self, topic):
        return self.id

    def partitions(self, topic):
        return self.count

    def ranges(self, topic):
        return dict.fromkeys(range(self.count), (2, 4))


class Noting:
    """A job that notes what it was asked with."""

    def progress(self, ranges):
        self.asked = ranges


@pytest.mark.parametrize("change", [{"id": "t2"}, {"count": 3}])
def test_a_topic_that_is_not_what_it_was_makes_the_job_start_again(change):
    cluster, job, known = Cluster(), Noting(), {}
    looking = {"job": (job, StallWatch())}
    assert look(looking, cluster, ["t"], known) == ""
    assert job.asked == {("t", 0): (2, 4), ("t", 1): (2, 4)}
    assert look(looking, cluster, ["t"], known) == ""
    cluster.count = 0
    with pytest.raises(RetryLater):
        look(looking, cluster, ["t"], known)
    cluster.count = 2
    vars(cluster).update(change)
    assert "made anew or has other partitions" in look(looking, cluster, ["t"], known)


def test_of_two_jobs_the_one_that_stands_still_is_named():
    class Standing:
        def progress(self, ranges):
            return BUSY

    looking = {"well": (Noting(), StallWatch()), "ill": (Standing(), StallWatch())}
    said = [look(looking, Cluster(), ["t"], {}) for _ in range(STALLED_LOOKS + 1)]
    assert set(said[:-1]) == {""}
    assert said[-1].startswith("ill: nothing was done in 18 looks")


def test_a_job_says_where_it_stands():
    async def run():
        async with ScoreJobOnFakes() as fakes:
            job = fakes.job
            assert job.progress({}) is None  # nobody has heard of it yet
            job.beats = 1
            seen = job.progress({("in", 0): (0, 10), ("in", 1): (0, 5)})
            assert (seen.behind, seen.is_member, seen.is_waiting) == (7, True, False)
            assert job.progress({("in", 0): (9, 10)}).behind == 1  # the others are gone
            fakes.table.back.set()
            await fakes.until(lambda: fakes.consumer.commits)
            assert job.progress({}).done == seen.done + 1
            job.revoked()
            assert not job.progress({}).is_member
            await job.finish()
            assert job.progress({}) is None

    asyncio.run(run())

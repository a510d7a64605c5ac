"""What a job says of itself: what it waits for, what it holds, how old that is."""

import asyncio

from infra.metrics import HELD, HELD_MAX, UNCOMMITTED_OLDEST_SECONDS, WAITING_FOR
from stream_jobs.job_health import WAIT_SECONDS, JobHealth
from tests.unit.stream_jobs.test_score_job_stop import Job as ScoreJobOnFakes


def test_before_it_has_begun_it_says_nothing():
    async def run():
        async with ScoreJobOnFakes() as fakes:
            health = JobHealth(fakes.job, fakes.job._clock)
            fakes.job.beats = 0
            assert health.details() == {"waiting_for": "", "uncommitted_oldest_seconds": None}

    asyncio.run(run())


def test_a_table_that_is_away_is_what_is_waited_for_until_all_is_committed():
    async def run():
        async with ScoreJobOnFakes() as fakes:
            job, clock = fakes.job, fakes.job._clock
            health = JobHealth(job, clock)
            health.follow()
            job.beats = 1
            await fakes.until(lambda: fakes.table.asked and job.barrier.step == 1)
            assert health.waiting_for() == ""  # every barrier takes a moment
            clock.advance(WAIT_SECONDS + 1)
            assert health.waiting_for() == "clickhouse"
            assert WAITING_FOR.labels("clickhouse").read() == 1.0
            assert WAITING_FOR.labels("kafka").read() == 0.0
            assert health.oldest_seconds() is not None
            assert UNCOMMITTED_OLDEST_SECONDS.labels().read() == health.oldest_seconds()
            assert HELD.labels("rows").read() > 0
            assert HELD_MAX.labels("rows").read() >= HELD.labels("rows").read()
            fakes.table.back.set()
            await fakes.until(lambda: fakes.consumer.commits and job.barrier.step == 0)
            assert health.waiting_for() == ""
            assert health.oldest_seconds() == 0.0
            assert HELD.labels("rows").read() == 0

    asyncio.run(run())

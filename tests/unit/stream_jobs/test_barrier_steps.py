"""The order of the barrier's four steps: each is whole before the next begins."""

import asyncio

from tests.unit.stream_jobs.test_score_job_shell import shell_test


@shell_test(hold=True)
async def test_the_four_steps_are_taken_in_their_order(shell):
    await shell.take(0, b"2")
    done = []

    def noting(step, call):
        def noted(*arguments, **more):
            result = call(*arguments, **more)
            done.append(step)
            return result

        return noted

    async def commit(offsets, generation, told=shell.consumer.commit_barrier):
        await told(offsets, generation)
        done.append("offsets committed")

    shell.table.insert = noting("rows stored", shell.table.insert)
    shell.store.append = noting("state written", shell.store.append)
    shell.consumer.commit_barrier = commit
    barrier = asyncio.create_task(shell.barrier.run())
    await shell.until(lambda: done)
    for _ in range(50):  # it waits for the event: nothing more comes
        await asyncio.sleep(0.001)
    assert done == ["rows stored"]
    shell.publisher.release()
    done.append("event delivered")
    assert await barrier
    pages = done.count("state written")
    assert pages > 0
    assert done == ["rows stored", "event delivered", *["state written"] * pages, "offsets committed"]

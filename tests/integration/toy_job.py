"""A stream job with a toy stage as a process of its own, for tests that stop, continue and kill it.

The stage numbers the records of its partition; each row is (partition, offset, number), so a state that is not
exactly the fold of the log shows as a second row for an offset, or a number that is not the offset's rank.
"""

import argparse
import asyncio
import json
import logging
import os
import socket
import sys
import time
from pathlib import Path

from infra.clock import SystemClock
from infra.health import HealthPolicy, Readiness
from infra.health_server import HealthServer
from infra.kafka import KafkaPublisher
from infra.meters import Exposition
from infra.metrics import CATALOGUE, JOBS
from infra.ports import RetryLater
from infra.settings import KafkaSettings
from schemas.base import DecodeError, Reason
from stream_jobs import stall_watch
from stream_jobs.job_health import JobHealth
from stream_jobs.jobs_cli import end_process, run_job, stop_at_once_on_sigterm
from stream_jobs.score_job import ScoreJob
from stream_jobs.score_specs import new_spec
from stream_jobs.stage import Effects, Outgoing

PAGES = 16


class CountingStage:
    """Numbers records; counts them in pages by offset. Every hundredth makes an event."""

    def __init__(self, topic, partition):
        self.topic, self.partition = topic, partition
        self._clear(0)

    def _clear(self, next_offset):
        self.next_offset, self.number = next_offset, 0
        self.counts, self._dirty = [0] * PAGES, set(range(PAGES))

    def apply(self, record):
        if record.value == b"bad":
            raise DecodeError(Reason.NOT_JSON, "it says bad")
        return self._step(record)

    def skip(self, record):
        return self._step(record)

    def _step(self, record):
        self.number += 1
        page = record.offset % PAGES
        self.counts[page] += 1
        self._dirty.add(page)
        self.next_offset = record.offset + 1
        if self.number % 100:
            events = []
        else:
            name = f"{self.partition}/{self.number}".encode()
            events = [Outgoing(f"{self.topic}.out", name, key=name, partition=self.partition)]
        rows = {"partition": [self.partition], "offset": [record.offset], "number": [self.number]}
        return Effects({"rows": rows}, events)

    def _page(self, page):
        return json.dumps([self.counts[page], self.number if page == 0 else None]).encode()

    def dirty_pages(self):
        return {f"page-{page}": self._page(page) for page in self._dirty | {0}}

    def all_pages(self):
        return {f"page-{page}": self._page(page) for page in range(PAGES)}

    def mark_clean(self):
        self._dirty.clear()

    def restore(self, pages, next_offset):
        self._clear(next_offset)
        if pages:
            loaded = [json.loads(pages[f"page-{page}"]) for page in range(PAGES)]
            self.counts, self.number = [one[0] for one in loaded], loaded[0][1]
            if sum(self.counts) != self.number:
                raise RuntimeError(f"a torn snapshot: {self.counts} are not {self.number}")
        return ()

    def tell_lost(self, reason):
        if "it folds" not in reason:  # a state of another topic is none of ours
            raise RuntimeError(f"no state may be lost here: {reason}")


class FileTable:
    """A TableWriter on a file that several processes share without locks: a stopped process would keep a lock.

    A row twice is one row to the reader, as with the real tables. It is away while there is a file PATH.down.
    """

    def __init__(self, path):
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._down = Path(f"{path}.down")

    def insert(self, table, columns, *, token):
        if self._down.exists():
            raise RetryLater("the table is away")
        rows = zip(columns["partition"], columns["offset"], columns["number"], strict=True)
        block = "".join(f"{partition} {offset} {number}\n" for partition, offset, number in rows)
        os.write(self._file, block.encode())
        return len(columns["offset"])


class StallingJob(ScoreJob):
    """Takes `records_max` records and then waits for ever, as Faust's consumer may come to do; or `blocks_at` records,
    and then its event loop does not run any more."""

    records_max = blocks_at = sys.maxsize

    async def take(self, record, serial):
        if self.owned.taken >= self.blocks_at:
            time.sleep(3_600)
        if self.owned.taken >= self.records_max:
            await asyncio.Event().wait()
        await super().take(record, serial)


def main():
    stop_at_once_on_sigterm()
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "topic", "rows", "group"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--session-ms", type=int, default=3_000)
    parser.add_argument("--barrier-seconds", type=float, default=0.3)
    parser.add_argument("--source", help="another name of the log: as if the topic were made anew")
    parser.add_argument("--log", default="INFO")
    parser.add_argument("--stall-after", type=int, default=sys.maxsize)
    parser.add_argument("--block-after", type=int, default=sys.maxsize)
    parser.add_argument("--once", help="a file that is made: stall and block only if it is not there yet")
    parser.add_argument("--look-seconds", type=float, default=stall_watch.LOOK_SECONDS)
    args = parser.parse_args()
    logging.basicConfig(level=args.log, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    kafka = KafkaSettings(bootstrap_servers=args.bootstrap, session_timeout_ms=args.session_ms)
    clock = SystemClock()
    publisher = KafkaPublisher(kafka, client_id="toy")
    spec = new_spec(
        args.topic,
        f"{args.topic}.state",
        args.source or args.topic,
        "digest",
        lambda partition: CountingStage(args.topic, partition),
        (kafka, publisher, clock),
    )
    stall_watch.LOOK_SECONDS = args.look_seconds
    if args.once is None or not os.path.exists(args.once):
        StallingJob.records_max, StallingJob.blocks_at = args.stall_after, args.block_after
    if args.once is not None:
        Path(args.once).touch()
    job = StallingJob(
        {args.topic: spec},
        FileTable(args.rows),
        publisher,
        clock,
        end_process,
        barrier_interval_seconds=args.barrier_seconds,
        row_flush_seconds=0.1,
        tick_seconds=1.0,
    )
    readiness = Readiness(HealthPolicy(), clock.monotonic())
    if port := int(os.environ.get("INFERWATCH_JOBS_METRICS_PORT", "0")):
        health = JobHealth(job, clock)
        HealthServer("127.0.0.1", port, readiness, Exposition(CATALOGUE, {JOBS}), clock, details=health.details)
        health.follow()
    client_id, started = f"toy-{socket.gethostname()}-{os.getpid()}", time.process_time()
    code = run_job(job, kafka, args.group, client_id, [args.topic], on_beat=lambda: readiness.joined(clock.monotonic()))
    publisher.close(5.0)
    print(json.dumps({"cpu_seconds": time.process_time() - started, "taken": job.owned.taken}))
    sys.exit(code)


if __name__ == "__main__":
    main()

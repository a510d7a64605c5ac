"""Stand-ins for the worker's engine and compute thread, and a worker on an in-memory broker."""

import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from inference_workers.admission.admit import Admission
from inference_workers.admission.image_reading import ImageReading
from inference_workers.admission.lanes import Lanes
from inference_workers.answers.earlier import none_earlier
from inference_workers.answers.newcomers import Newcomers
from inference_workers.answers.outcomes import Outcomes
from inference_workers.answers.records import Answers
from inference_workers.batching.cache import ResultCache
from inference_workers.batching.compute import compute
from inference_workers.batching.planner import BatchLimit
from inference_workers.deployments.routing import RoutingTable, own_route
from inference_workers.images.pool import ReadDone, read_of
from inference_workers.models.servable import Servable
from inference_workers.models.tokenise import Tokeniser
from inference_workers.ports import EngineError, Forward, Head, OutOfMemory
from inference_workers.telemetry.accumulator import TelemetryAccumulator
from inference_workers.worker.loop import DELIVERIES_PER_RECORD, InferenceWork, WorkLimit
from infra.batch_loop import BatchLoop, LoopLimit
from infra.dead_letters import DeadLetters
from infra.outbox import Outbox
from schemas.base import decode
from schemas.predictions import PREDICTION_KINDS, ModelRef
from schemas.telemetry import TELEMETRY_KINDS, WorkerRef
from schemas.topics import PREDICTIONS, REQUESTS, TELEMETRY
from tests.fakes import FakeBroker, FakeClock, FakeLog, FakePublisher
from tests.parts import default_model

GROUP = "inference-workers"
MODEL = ModelRef(name="m", version="1", digest="d")
TOKENS_MAX = 256


def model_folder() -> Path:
    return default_model().path


class FakeEngine:
    """Vectors that tell their input: [number of tokens, first real token]. `broken` tokens make it raise."""

    def __init__(self, broken=(), nan=(), bug=(), head=Head.VECTORS, tokens_max=None):
        self.broken, self.nan, self.bug = set(broken), set(nan), set(bug)
        self.head, self.tokens_max = head, tokens_max
        self.calls, self.closed = 0, False
        self.seen = []

    def compute(self, items):
        self.calls += 1
        self.seen.append([tuple(item.ids) for item in items])
        tokens = {token for one in items for token in one.ids}
        if tokens & self.broken:
            raise EngineError("it cannot")
        if tokens & self.bug:
            raise TypeError("nobody foresaw this \ud800")
        if self.tokens_max is not None and len(items) * max(one.cost for one in items) > self.tokens_max:
            raise OutOfMemory("CUDA out of memory")
        computed = sum(len(one.ids) for one in items)
        return Forward(self.rows(items), np.full(len(items), 2.0, np.float32), computed)

    def rows(self, items):
        rows = np.array([[len(one.ids), one.ids[1]] for one in items], np.float32)
        for row, one in zip(rows, items, strict=True):
            if set(one.ids) & self.nan:
                row[1] = np.nan
        return rows

    def memory_bytes(self):
        return 1_000

    def close(self):
        self.closed = True


@dataclass
class InlineCompute:
    """Computes when collected, unless `held`."""

    clock: FakeClock
    held: bool = False
    jobs: list = field(default_factory=list)

    def submit(self, ticket, engine, arrangement):
        self.jobs.append((ticket, engine, arrangement))

    def collect(self):
        if self.held:
            return []
        jobs, self.jobs = self.jobs, []
        return [(ticket, compute(engine, self.clock, arrangement)) for ticket, engine, arrangement in jobs]

    def under_way(self):
        return len(self.jobs)


@dataclass
class InlineReads:
    """Reads when collected, at most `room_max` taken over at once; none while `held`."""

    room_max: int = 4
    held: bool = False
    seconds: float = 0.0
    """What each read says it took; all at the same time."""
    todo: list = field(default_factory=list)

    def room(self):
        return self.room_max - len(self.todo)

    def submit(self, ticket, read, reference):
        assert self.room() > 0
        self.todo.append((ticket, read, reference))

    def collect(self):
        if self.held:
            return []
        todo, self.todo = self.todo, []
        return [ReadDone(ticket, read_of(read, reference), 0.0, self.seconds) for ticket, read, reference in todo]


def servable(engine=None, ref=MODEL, **more):
    tokeniser = Tokeniser(model_folder(), tokens_max=TOKENS_MAX, text_bytes_max=2_000)
    return Servable(ref, tokeniser, engine or FakeEngine(), "cpu", TOKENS_MAX, **more)


class World:
    """A worker on an in-memory broker with two partitions; `run(turns)` runs its loop for so many waits or polls."""

    def __init__(self, engine=None, broker=None, **limits):
        self.clock = broker.clock if broker else FakeClock()
        self.broker = broker or FakeBroker(self.clock)
        self.publisher = FakePublisher(self.broker)
        self.engine = engine or FakeEngine()
        self.compute = limits.get("compute") or InlineCompute(self.clock)
        self.servable = servable(self.engine, **limits.get("servable", {}))
        self.topic_id = "topic-1"
        self.identity_failures = []
        self.stop = threading.Event()
        self.log = None
        self.polls_left = 0
        self.at_poll = {}
        self.reads = limits.get("reads") or InlineReads()
        self.admission = Admission(
            RoutingTable(own_route(self.servable)),
            self.clock,
            ImageReading(self.reads),
            head_starts_ms=limits.get("head_starts_ms", {}),
            request_tokens_max=limits.get("request_tokens_max", 2**31),
        )
        self.lanes = Lanes(BatchLimit(TOKENS_MAX, 8, limits.get("wait_ms_max", 5)))
        self.cache = ResultCache(limits.get("cache_bytes_max", 0))
        self.work = InferenceWork(
            self.admission,
            self.lanes,
            self.compute,
            self.cache,
            Outcomes(
                Answers("w", random.Random(1).getrandbits),
                TelemetryAccumulator(WorkerRef(worker_id="w", host="h", pid=1, device="cpu"), 200),
                DeadLetters(self.publisher, "worker"),
                self.clock,
            ),
            Newcomers(self._identity_of, self.clock, limits.get("earlier", none_earlier)),
            self.clock,
            WorkLimit(limits.get("queue_requests_max", 100), limits.get("queue_bytes_max", 10_000_000)),
            models=limits.get("models"),
            observer=limits.get("observer"),
        )
        self.outbox = Outbox(self.publisher, self.clock)
        self.loop = BatchLoop(
            self._open_log,
            self.outbox,
            self.work,
            self.clock,
            LoopLimit(
                deliveries_per_record=DELIVERIES_PER_RECORD,
                poll_records_max=limits.get("poll_records_max", 256),
                held_records_max=limits.get("held_records_max", 2_000),
                window_records_max=limits.get("window_records_max", 2_000),
            ),
            stop=self.stop,
            wait=limits.get("wait", self.clock.advance),
        )

    def _identity_of(self, topic):
        if self.identity_failures:
            raise self.identity_failures.pop(0)
        return "cluster", self.topic_id

    def _open_log(self, assigned, revoked):
        self.log = FakeLog(self.broker, group=GROUP, topics=[REQUESTS.name], on_assigned=assigned, on_revoked=revoked)
        poll = self.log.poll

        def counted(count_max, timeout_seconds):
            self.polls_left -= 1
            if self.polls_left <= 0:
                self.stop.set()
            todo = self.at_poll.pop(self.polls_left, None)
            if todo is not None:
                todo()
            return poll(count_max, timeout_seconds)

        self.log.poll = counted
        return self.log

    def ask(self, value, *, partition=0, key=b"k", headers=()):
        value = value.encode() if isinstance(value, str) else value
        return self.broker.append(REQUESTS.name, value, key=key, partition=partition, headers=headers)

    def run(self, polls=60):
        """Run until so many polls are done, then stop in order."""
        self.stop.clear()
        self.polls_left = polls
        self.loop.run()
        return self

    def predictions(self):
        """(record, message) of every prediction."""
        found = self.broker.of(PREDICTIONS.name)
        return [(record, decode(record.headers, record.value, PREDICTION_KINDS).data) for record in found]

    def outcomes(self):
        """{(partition, offset): (outcome, error)} of all telemetry; each offset must be told once."""
        told = {}
        for record in self.broker.of(TELEMETRY.name):
            event = decode(record.headers, record.value, TELEMETRY_KINDS).data
            assert event.partition == record.partition
            rows = event.requests
            for offset, outcome, error in zip(rows.offset, rows.outcome, rows.error, strict=True):
                assert (event.partition, offset) not in told
                told[event.partition, offset] = outcome.value, error
        return told

    def committed(self):
        """{partition: next offset}."""
        return {p: o for (group, _, p), o in self.broker.committed.items() if group == GROUP}


def look_while_held(world, polls):
    """Run for so many polls, the model standing still for the first ones: how many requests wait then, and how many
    partitions are paused."""
    seen = []
    world.compute.held = True

    def look():
        seen.append((world.work.waiting(), len(world.log._paused)))
        world.compute.held = False

    world.at_poll = {150: look}
    world.run(polls)
    [found] = seen
    return found

"""Stand-ins for the worker's engine and compute thread, and a worker on an in-memory broker."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from inference_workers.admission import Admission
from inference_workers.answers import Answers
from inference_workers.batching import BatchLimit
from inference_workers.compute import compute
from inference_workers.loop import DELIVERIES_PER_RECORD, InferenceWork
from inference_workers.ports import Embedded, EngineError, NonFiniteOutput
from inference_workers.telemetry import TelemetryAccumulator
from inference_workers.tokenise import Tokeniser
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

    def __init__(self, broken=(), nan=(), bug=()):
        self.broken, self.nan, self.bug = set(broken), set(nan), set(bug)
        self.calls = 0

    def embed(self, sequences):
        self.calls += 1
        tokens = {token for one in sequences for token in one}
        if tokens & self.broken:
            raise EngineError("it cannot")
        if tokens & self.nan:
            raise NonFiniteOutput("NaN")
        if tokens & self.bug:
            raise TypeError("nobody foresaw this \ud800")
        vectors = np.array([[len(one), one[1]] for one in sequences], np.float32)
        return Embedded(vectors, np.full(len(sequences), 2.0, np.float32), sum(map(len, sequences)))

    def memory_bytes(self):
        return 1_000


@dataclass
class InlineCompute:
    """Computes when collected, unless `held`."""

    engine: FakeEngine
    clock: FakeClock
    held: bool = False
    jobs: list = field(default_factory=list)

    def submit(self, ticket, plan, sequences):
        self.jobs.append((ticket, plan, sequences))

    def collect(self):
        if self.held:
            return []
        jobs, self.jobs = self.jobs, []
        return [(ticket, compute(self.engine, self.clock, TOKENS_MAX, plan, s)) for ticket, plan, s in jobs]

    def under_way(self):
        return len(self.jobs)


class World:
    """A worker on an in-memory broker with two partitions; `run(turns)` runs its loop for so many waits or polls."""

    def __init__(self, engine=None, broker=None, **limits):
        self.clock = broker.clock if broker else FakeClock()
        self.broker = broker or FakeBroker(self.clock)
        self.publisher = FakePublisher(self.broker)
        self.engine = engine or FakeEngine()
        self.compute = InlineCompute(self.engine, self.clock)
        self.topic_id = "topic-1"
        self.identity_failures = []
        self.stop = threading.Event()
        self.log = None
        self.polls_left = 0
        self.at_poll = {}
        worker = WorkerRef(worker_id="w", host="h", pid=1, device="cpu")
        self.work = InferenceWork(
            Admission(Tokeniser(model_folder(), tokens_max=TOKENS_MAX, text_bytes_max=2_000), self.clock),
            self.compute,
            Answers("w", MODEL),
            TelemetryAccumulator(worker, 200),
            DeadLetters(self.publisher, "worker"),
            self._identity_of,
            self.clock,
            model=MODEL,
            limit=BatchLimit(TOKENS_MAX, 8, 5),
            queue_requests_max=limits.get("queue_requests_max", 100),
            queue_bytes_max=10_000_000,
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
            ),
            stop=self.stop,
            wait=self.clock.advance,
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

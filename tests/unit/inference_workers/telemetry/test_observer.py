"""What the loop tells comes out as readiness, metrics, samples and pace: here with a model that hangs."""

import threading

import pytest

from inference_workers.telemetry.observer import METER_EVENTS_MAX, Observer
from inference_workers.telemetry.served_page import BatchFacts
from infra import metrics
from infra.health import Code, HealthPolicy
from infra.outbox import Outbox, Outgoing
from schemas.predictions import ModelRef
from schemas.telemetry import BatchReason, Outcome
from tests.fakes import FakeBroker, FakeClock, FakePublisher
from tests.unit.inference_workers.telling import served_event

MODEL = ModelRef(name="observed", version="1")


class FakeUsage:
    def cpu_seconds(self):
        return 1.0

    def memory_bytes(self):
        return 1_000


class ToyWorker:
    """A loop with a queue and a model, a step each tenth of a second. `hangs`: the model takes batches, gives none."""

    def __init__(self, batch=4, seconds=0.1):
        self.clock = FakeClock()
        self.publisher = FakePublisher(FakeBroker(self.clock))
        self.outbox = Outbox(self.publisher, self.clock)
        self.stop = threading.Event()
        self.observer = Observer(HealthPolicy(), self.clock, FakeUsage(), is_stopping=self.stop.is_set)
        self.observer.ready_to_join()
        self.observer.joined()
        self.batch, self.seconds = batch, seconds
        self.queue, self.computing, self.hangs = [], [], False

    def run(self, seconds, per_second=0):
        for step in range(round(seconds / self.seconds)):
            arrivals = int((step + 1) * per_second * self.seconds) - int(step * per_second * self.seconds)
            self.queue += [self.clock.monotonic()] * arrivals
            self.step()
            self.clock.advance(self.seconds)
        return self.observer.readiness.ready(self.clock.monotonic())

    def step(self):
        if self.computing and not self.hangs:
            self.fold()
        if not self.computing:
            self.computing, self.queue = self.queue[: self.batch], self.queue[self.batch :]
        self.outbox.collect()
        held = self.queue + self.computing
        self.observer.turned(
            waiting=len(self.queue),
            waiting_bytes=10 * len(self.queue),
            computing=len(self.computing),
            oldest_seconds=self.clock.monotonic() - min(held) if held else None,
            outbox=self.outbox,
        )
        self.observer.sample()

    def fold(self):
        size, self.computing = len(self.computing), []
        for _ in range(size):
            self.outbox.send(Outgoing("predictions", b"1"), [])
        self.observer.folded(BatchFacts(MODEL, size, 8, 8, 1.0, 100.0, BatchReason.FULL, 0, 1, size))
        self.observer.told([served(size)])

    def live(self):
        return self.observer.readiness.live(self.clock.monotonic())


def served(count, outcome=Outcome.ANSWERED, *, batched=True):
    return served_event(*[(outcome, "observed", MODEL, batched, 5.0, 1.0, 1, 0.0, "")] * count)


@pytest.fixture
def worker():
    return ToyWorker()


def test_a_worker_that_serves_is_ready(worker):
    assert worker.run(10, per_second=20).code in (Code.OK, Code.IDLE)
    assert worker.run(5).code is Code.IDLE


def test_a_model_that_hangs_is_seen_within_the_limit_and_its_recovery_at_once(worker):
    worker.run(10, per_second=20)
    worker.hangs = True
    assert worker.run(29, per_second=20).good
    verdict = worker.run(2, per_second=20)
    assert (verdict.good, verdict.code) == (False, Code.STALLED)
    assert "the model has answered none for 3" in verdict.words
    assert metrics.OWED_REQUESTS.labels().read() > 600
    assert metrics.OWED_OLDEST_SECONDS.labels().read() > 30
    assert worker.live().good
    worker.run(300)
    assert not worker.live().good  # for a restart hands its partitions to another worker
    worker.hangs = False
    assert worker.run(0.2).good
    assert worker.live().good


def test_shedding_what_is_late_does_not_hide_a_model_that_hangs(worker):
    worker.hangs = True
    for _ in range(400):
        worker.run(0.1, per_second=20)
        worker.queue.clear()  # all that waits is shed as too late, and told
        worker.observer.told([served(2, Outcome.SHED, batched=False)])
    assert worker.observer.readiness.ready(worker.clock.monotonic()).code is Code.STALLED
    assert worker.observer.pace.per_second is None  # shedding is no service


def test_answers_that_kafka_does_not_take_are_seen(worker):
    worker.run(5, per_second=20)
    worker.publisher.hold = True
    verdict = worker.run(40, per_second=20)
    assert (verdict.good, verdict.code) == (False, Code.UNDELIVERED)
    assert metrics.UNDELIVERED.labels().read() > 100
    worker.publisher.release()
    assert worker.run(0.2).good


def test_the_pace_is_learnt_when_it_has_more_than_it_can_do(worker):
    worker.run(20, per_second=100)
    assert worker.observer.pace.per_second == pytest.approx(40.0, rel=0.1)  # four in each tenth of a second


def test_requests_are_counted_about_once_a_second_and_none_is_lost(worker):
    labels = "observed", "observed", "1", "answered"
    before = metrics.REQUESTS.labels(*labels).read()
    worker.run(0.5, per_second=20)
    worker.observer.told([served(7)] * METER_EVENTS_MAX)
    worker.step()
    assert metrics.REQUESTS.labels(*labels).read() >= before + 7 * METER_EVENTS_MAX
    worker.observer.told([served(1)])
    now = metrics.REQUESTS.labels(*labels).read()
    worker.step()
    assert metrics.REQUESTS.labels(*labels).read() == now
    worker.observer.close()
    assert metrics.REQUESTS.labels(*labels).read() == now + 1


def test_the_mean_delivery_time_is_in_the_sample(worker):
    worker.publisher.hold = True
    worker.outbox.send(Outgoing("predictions", b"1"), [])
    worker.step()
    worker.clock.advance(0.25)
    worker.publisher.release()
    worker.step()
    worker.clock.advance(1)
    worker.step()
    assert worker.observer.sample().publish_ms == pytest.approx(250.0)
    assert worker.observer.sample().process_cpu_share == 0.0


def test_a_worker_that_is_told_to_stop_is_not_ready(worker):
    worker.stop.set()
    assert worker.run(1).code is Code.STOPPING


def test_the_cache_is_shown(worker):
    worker.observer.follow_cache(lambda: 1_234, lambda: 5)
    assert metrics.CACHE_BYTES.labels().read() == 1_234
    assert metrics.CACHE_EVICTIONS.labels().read() == 5


def test_an_idle_worker_shows_its_process(worker):
    metrics.PROCESS_CPU_RATIO.set(None)
    outbox = {"waiting": 0, "waiting_bytes": 0, "computing": 0, "oldest_seconds": None, "outbox": worker.outbox}
    for _ in range(3):
        worker.observer.turned(**outbox)
        worker.clock.advance(1.1)
    assert metrics.PROCESS_CPU_RATIO.labels().read() is not None

"""What a chaos run changes in a child process before its main: a protection switched off, a death at one instruction,
a replay that writes to topics of its own. Only tests know of it: the product has no such switch.

A death happens once, and only after it was armed: by a file in the folder `CHAOS_MARKS`, which is then renamed.
"""

import os
import signal
import sys
import time
import uuid
from pathlib import Path

DEATH = 137
"""The exit code of a death on purpose."""
PRECISE = "die_between_state_and_commit die_between_answer_and_telemetry stand_still_before_manifest"
"""The deaths that any process of a run may be told to die."""
PREFIX = "replay."
"""Names of what a clean replay writes."""


def once(name: str) -> bool:
    """Whether this is the first to ask since it was armed, of all processes of the run."""
    marks = Path(os.environ["CHAOS_MARKS"])
    try:
        os.rename(marks / f"{name}.arm", marks / f"{name}.mark")
    except FileNotFoundError:
        return False
    return True


def die_once(name: str) -> None:
    if once(name):
        os._exit(DEATH)


def advertise(proxy_port: int) -> None:
    """The embedded Kafka tells clients to come to the proxy."""
    from infra.embedded import kafka_config

    original = kafka_config.server_properties

    def properties(broker_port: int, *more, **named) -> str:
        text = original(broker_port, *more, **named)
        told = f"advertised.listeners=BROKER://127.0.0.1:{broker_port}\n"
        assert told in text
        return text.replace(told, f"advertised.listeners=BROKER://127.0.0.1:{proxy_port}\n")

    kafka_config.server_properties = properties


# A clean replay.


def replay_topics() -> None:
    """What the score job writes goes to topics of other names; what it reads is the run's telemetry."""
    from dataclasses import replace

    from schemas import topics

    written = ("WINDOWS", "ANOMALIES", "ALERTS", "REQUEST_STATE", "WINDOW_STATE")
    names = {getattr(topics, one).name for one in written}

    def renamed(topic):
        if topic.name.removesuffix(".dead-letters") not in names:
            return topic
        of = topic.partitions_of
        return replace(topic, name=PREFIX + topic.name, partitions_of=PREFIX + of if of in names else of)

    topics.DECLARED = tuple(renamed(one) for one in topics.DECLARED)
    for one in written:
        setattr(topics, one, renamed(getattr(topics, one)))


def trust_the_log() -> None:
    """What the telemetry says of request topics is believed: a replay may come after they are gone."""
    from stream_jobs.request_log import KafkaRequestLog

    KafkaRequestLog.is_known = lambda self, cluster_id, topic_id: True
    KafkaRequestLog.end = lambda self, cluster_id, topic_id, partition: None


def no_ticks() -> None:
    """An idle partition gets no ticks: the telemetry log stands still."""
    from stream_jobs import score_specs

    score_specs.ticker = lambda *given: lambda *place: None


# Deaths at one instruction.


def die_between_state_and_commit() -> None:
    """Between steps 3 and 4 of the barrier: the snapshot is durable, the offsets are not committed."""
    from stream_jobs.barrier import Barrier

    commit = Barrier._commit

    async def dying(self, cuts):
        if self.passed >= 3 and sum(cut.next_offset - (cut.runner.committed or 0) for cut in cuts) > 5:
            die_once("die_between_state_and_commit")
        return await commit(self, cuts)

    Barrier._commit = dying


def die_between_answer_and_telemetry() -> None:
    """A worker's answers are in Kafka, and what it would tell of them is not."""
    from inference_workers.answers.records import Answers

    telemetry, calls = Answers.telemetry, []

    def dying(self, event, now_ms):
        calls.append(now_ms)
        if len(calls) >= 20 and once("die_between_answer_and_telemetry"):
            time.sleep(1.0)  # until the answers are delivered; this thread would store offsets, and does not
            os._exit(DEATH)
        return telemetry(self, event, now_ms)

    Answers.telemetry = dying


def stand_still_before_manifest() -> None:
    """In step 3, between the pages and the manifest that names them: a scoring job stops, and dies when it was
    continued and is done. The ledger writes its state the same way, and has no peer that would take over."""
    from stream_jobs.state_log import PartitionState

    settle, calls = PartitionState._settle, []

    def stopping(self):
        calls.append(self._partition)
        chosen = "score" in sys.argv and len(calls) > 20 and once("stand_still_before_manifest")
        if chosen:
            os.kill(os.getpid(), signal.SIGSTOP)
        try:
            settle(self)
        finally:
            if chosen:
                (Path(os.environ["CHAOS_MARKS"]) / "zombie-wrote").touch()
                os._exit(DEATH)

    PartitionState._settle = stopping


def die_after_commit() -> None:
    """After step 4 of the barrier, which is the last."""
    from stream_jobs.barrier import Barrier

    commit = Barrier._commit

    async def dying(self, cuts):
        done = await commit(self, cuts)
        if self.passed >= 8:
            die_once("die_after_commit")
        return done

    Barrier._commit = dying


def hang_for_good() -> None:
    """A worker's forward pass begins, once it was armed, and never ends."""
    from inference_workers import worker_cli

    delay = worker_cli._delay

    def hanging(*given):
        hold_back = delay(*given)

        def held() -> None:
            if once("hang_for_good"):
                while True:
                    time.sleep(1.0)
            hold_back()

        return held

    worker_cli._delay = hanging


def slow() -> None:
    """A worker takes a second for each batch."""
    from inference_workers import worker_cli

    worker_cli._delay = lambda *given: lambda: time.sleep(1.0)


# Protections switched off.


def no_offset_in_state() -> None:
    """The group's committed offset says where to begin, not the state."""
    from stream_jobs import owned_partitions

    restored = owned_partitions.restored

    def trusting(spec, partition, state, start):
        stage = restored(spec, partition, state, start)
        stage.next_offset = stage.next_offset if start is None else start
        return stage

    owned_partitions.restored = trusting


def commit_first() -> None:
    """State and offsets before rows and events."""
    import asyncio

    from stream_jobs.barrier import Barrier

    async def run(self) -> bool:
        async with self._running:
            cuts = [runner.cut() for runner in self._owned.runners() if runner.moved]
            if not cuts:
                return True
            done = await asyncio.gather(*(self._snapshot(cut) for cut in cuts))
            await self._commit([cut for cut, saved in zip(cuts, done, strict=True) if saved])
            await self._sink.flush()
            await asyncio.gather(*(cut.runner.delivered() for cut in cuts))
            return all(done)

    Barrier.run = run


def no_owner() -> None:
    """The state log knows no owners and no epochs: who writes last is right."""
    from dataclasses import replace

    from stream_jobs.score_job import ScoreJob
    from stream_jobs.state_log import PartitionState
    from stream_jobs.state_records import StateKey

    encode = StateKey.encode
    StateKey.encode = lambda self: encode(replace(self, epoch=1, owner="0"))
    PartitionState._check_alone = lambda self, offsets: None
    ScoreJob.stood_still = lambda self, seconds: None


def no_identity() -> None:
    """A worker names requests by itself, not by their position."""
    from inference_workers import ports
    from inference_workers.answers import newcomers
    from inference_workers.telemetry import accumulator
    from inference_workers.telemetry.served_page import WHOLE

    shift = 1_000 * (1 + os.getpid() % 50)
    newcomers.Place = lambda cluster, topic, partition, offset: ports.Place(cluster, topic, partition, offset + shift)
    served = accumulator.served

    def told_so(*given):
        events = served(*given)
        for event in events:
            event.whole[WHOLE.index("offset")] += shift
        return events

    accumulator.served = told_so


def no_tokens() -> None:
    """Every attempt to insert a block is another insert to the server."""
    from infra.clickhouse.client import ClickHouse

    insert = ClickHouse.insert
    ClickHouse.insert = lambda self, table, columns, *, token: insert(self, table, columns, token=uuid.uuid4().hex)


def no_dead_letters() -> None:
    """What cannot be read is dropped."""
    from infra.dead_letters import DeadLetters

    def drop(self, record, error, on_delivery=None, topic_id="") -> None:
        if on_delivery is not None:
            on_delivery(0, None)

    DeadLetters.send = drop


def store_at_once() -> None:
    """A worker stores an offset when it has the record, not when the answer is delivered."""
    from infra.progress import Progress

    begin = Progress.begin

    def hasty(self, offset, appended_ms=0):
        receipt = begin(self, offset, appended_ms)
        self._next_offset = offset + 1
        return receipt

    Progress.begin = hasty


def step_clock() -> None:
    """The process' clock is wrong by `CHAOS_CLOCK_MS` once the file `clock-steps` is there."""
    from infra.clock import SystemClock

    now_ms, step = SystemClock.now_ms, int(os.environ["CHAOS_CLOCK_MS"])
    flag = Path(os.environ["CHAOS_MARKS"]) / "clock-steps"
    SystemClock.now_ms = lambda self: now_ms(self) + (step if flag.exists() else 0)


APPLY = {
    one.__name__: one
    for one in (
        replay_topics,
        trust_the_log,
        no_ticks,
        die_between_state_and_commit,
        die_between_answer_and_telemetry,
        stand_still_before_manifest,
        die_after_commit,
        hang_for_good,
        slow,
        no_offset_in_state,
        commit_first,
        no_owner,
        no_identity,
        no_tokens,
        no_dead_letters,
        store_at_once,
        step_clock,
    )
}

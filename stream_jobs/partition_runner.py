"""One owned partition: its stage, what it handed over, what is not saved yet. Decides nothing about committing.

`take_over` makes one from the state log; `take` applies a record; `cut` gives a barrier what it must make durable.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from infra.metrics import LATE_SERIES_DROPPED, STATE_RENEWED
from infra.ports import Record
from schemas.base import DecodeError
from stream_jobs.limits import LimitLog
from stream_jobs.outbox import Batch, Outbox
from stream_jobs.sink import RowSink
from stream_jobs.stage import PAGE_BYTES_MAX, Effects, Stage
from stream_jobs.state_log import PartitionState

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StageSpec:
    """A stage of the job: which topic it folds, where its state lives, how to make one.

    `source` names the log (cluster and topic id): a state of another log is never taken. `digest` names what decides
    which state belongs to a partition: one made under another is started anew, at its position.
    """

    topic: str
    source: str
    digest: str
    new_stage: Callable[[int], Stage]
    """Makes an empty stage for a partition."""
    new_state: Callable[[int], PartitionState]
    """Makes a hold on a partition's state, with an owner of its own."""
    ticks: bool = False
    """Whether an idle partition of this topic gets ticks, so that its windows close."""
    recover: Callable[[Stage, int], None] | None = None
    """Told of a partition's stage that starts without a state, before its first record. In a thread: it may block, and
    raise RetryLater."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What one partition had done at an instant: the barrier makes it durable, then commits `next_offset`."""

    runner: PartitionRunner
    next_offset: int
    pages: dict[str, bytes | None]


def restored(spec: StageSpec, partition: int, state: PartitionState, start: int | None) -> Stage:
    """Take over a partition's state; the stage, ready at its `next_offset`, its snapshot durable under the new epoch.

    `start` is the committed offset, or the log's first when there is none: where a partition without a usable state
    begins. A state that was there and cannot be used, whole or in part, is counted, and the stage says so.
    Blocks; raises RetryLater (call again with a new state) and Superseded.
    """
    found = state.take_over()
    stage = spec.new_stage(partition)
    where = f"{spec.topic}[{partition}]"
    lost, broken, is_new = list(state.passed_over), [], True
    if found is None:
        LOG.info("%s: no state, from offset %s", where, start)
        stage.restore({}, start or 0)
    elif found.digest != spec.digest:
        lost.append(f"it is of another configuration: {found.digest}, not {spec.digest}")
        stage.restore({}, found.next_offset)
    else:
        try:
            broken, is_new = list(stage.restore(found.pages, found.next_offset)), False
        except ValueError as error:
            lost.append(f"it cannot be read: {error}")
            stage = spec.new_stage(partition)
            stage.restore({}, found.next_offset)
    _tell(spec.topic, where, lost, broken)
    if lost:
        stage.tell_lost(f"{'all is learnt anew' if is_new else 'an older state goes on'}: {'; '.join(lost)}")
    if (is_new or broken) and spec.recover is not None:
        spec.recover(stage, partition)
    pages = stage.all_pages()
    check_pages(pages)
    state.write_all(pages, stage.next_offset)
    stage.mark_clean()
    return stage


def _tell(topic: str, where: str, lost: Sequence[str], broken: Sequence[str]) -> None:
    """Tell the operator of a state that was passed over or not taken, and of parts of it that were broken."""
    for what, found in (("a state", lost), ("a part of the state", broken)):
        for why in found:
            LOG.error("%s: %s could not be taken over: %s", where, what, why)
    STATE_RENEWED.labels(topic, "all").inc(len(lost))
    STATE_RENEWED.labels(topic, "part").inc(len(broken))


@dataclass(eq=False, slots=True)
class PartitionRunner:
    """One owned partition. For the event loop's thread."""

    topic: str
    partition: int
    generation: int
    stage: Stage
    state: PartitionState
    outbox: Outbox
    sink: RowSink
    limits: LimitLog
    committed: int | None = None
    """What this owner committed last; None: nothing yet."""
    alive: bool = True
    idle_since: float = 0.0
    """Monotonic second of the last record, or of the take-over."""
    oldest_ms: int | None = None
    """When the oldest record that was taken and is not committed was appended; None: all are committed."""
    _oldest_since_cut_ms: int | None = None
    _batch: Batch = field(default_factory=Batch)
    _sealed: list[Batch] = field(default_factory=list)
    _unsaved: dict[str, bytes | None] = field(default_factory=dict)

    async def take(self, record: Record) -> bool:
        """Apply a record and hand its effects over; waits while rows or events are too far behind.

        False when there was nothing to do: already inside the state, or the partition was lost. A record that cannot
        be used becomes a dead letter. Anything raised is a fault of the program.
        """
        await self.sink.room()
        await self.outbox.room()
        # From here nothing waits: a barrier sees a record with all of its effects, or not at all.
        if not self.alive or record.offset < self.stage.next_offset:
            return False
        try:
            effects = self.stage.apply(record)
        except DecodeError as error:
            self.dead_letter(record, error)
            effects = self.stage.skip(record)
        if self._oldest_since_cut_ms is None:
            self._oldest_since_cut_ms = record.timestamp_ms
            self.oldest_ms = record.timestamp_ms if self.oldest_ms is None else self.oldest_ms
        self._hand_over(effects, record)
        return True

    def _hand_over(self, effects: Effects, record: Record) -> None:
        if effects.rows:
            self.sink.add(self, record, effects.rows)
        for event in effects.events:
            self.outbox.event(self._batch, event, record)
        for what, count in effects.limits.items():
            self.limits.reached(what, count, f"{record.topic}[{record.partition}]@{record.offset}")
        if effects.passed_over is not None:
            self.limits.passed_over(record.topic, effects.passed_over, record.offset)
        if effects.late_series_dropped:
            LATE_SERIES_DROPPED.inc(effects.late_series_dropped)
            LOG.warning(
                "%s[%d]@%d: %d partial series came after their window was forgotten and are in no row",
                *(record.topic, record.partition, record.offset, effects.late_series_dropped),
            )

    def dead_letter(self, record: Record, error: DecodeError) -> None:
        """Hand a dead letter over; the next commit waits for it."""
        LOG.warning("%s[%d]@%d: %s", record.topic, record.partition, record.offset, error)
        self.outbox.dead_letter(self._batch, record, error)

    @property
    def moved(self) -> bool:
        """Whether there is something to commit."""
        return self.alive and self.stage.next_offset != self.committed

    def cut(self) -> Cut:
        """The state now, with all pages not saved yet."""
        dirty = self.stage.dirty_pages()
        check_pages(dirty)
        self._unsaved.update(dirty)
        self.stage.mark_clean()  # from now on the shell answers for these pages
        self._oldest_since_cut_ms = None
        return Cut(self, self.stage.next_offset, dict(self._unsaved))

    async def delivered(self) -> None:
        """Wait until all handed over so far is delivered, or the partition is lost."""
        batch, self._batch = self._batch, Batch()
        self._sealed.append(batch)
        self.outbox.seal(batch)
        while self._sealed and self.alive:
            await self._sealed[0].settled.wait()
            self._sealed.pop(0)

    def saved(self, cut: Cut) -> None:
        """The cut's snapshot is durable."""
        for name, body in cut.pages.items():
            if name in self._unsaved and self._unsaved[name] is body:
                del self._unsaved[name]

    def done(self, cut: Cut) -> None:
        """The cut is committed. It is the last one: barriers do not overlap."""
        self.committed = cut.next_offset
        self.oldest_ms = self._oldest_since_cut_ms

    def drop(self) -> None:
        """The partition is not ours any more: forget everything, commit nothing."""
        self.alive = False
        self._unsaved.clear()
        for batch in (*self._sealed, self._batch):
            batch.dropped = True
            batch.settled.set()


def check_pages(pages: Mapping[str, bytes | None]) -> None:
    """Raises ValueError when a page is larger than a state record may be."""
    for name, body in pages.items():
        if body is not None and len(body) > PAGE_BYTES_MAX:
            raise ValueError(f"state page {name} has {len(body)} bytes, at most {PAGE_BYTES_MAX} are allowed")

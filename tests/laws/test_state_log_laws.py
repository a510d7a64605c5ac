"""The state log under crashes at any record, lost answers, zombies writing late and compaction at any time.

Whatever happens, who takes over gets a state that is exactly the fold of the source up to its next offset, and that is
never older than what the group has committed.
"""

import hashlib
import itertools
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from infra.ports import Record, RetryLater
from stream_jobs.page_shelf import PageShelf
from stream_jobs.state_log import PartitionState, Superseded
from stream_jobs.state_records import frame

PAGES = 4


class Crash(BaseException):
    """The process is gone."""


def fold(next_offset):
    """What the source folded up to an offset gives: pages come, grow and go."""
    pages = {}
    for offset in range(next_offset):
        name = f"page|{offset * 7 % PAGES}"
        body = pages.get(name, b"") + bytes([offset % 251])
        if len(body) > 3:
            pages.pop(name, None)
        else:
            pages[name] = body
    pages["always"] = hashlib.sha256(str(next_offset).encode()).digest()
    return pages


class MemoryStore:
    """A compacted partition. `script` says what happens at each step of an operation; `meanwhile` lets others act."""

    def __init__(self):
        self.records = []
        self.next_offset = 0
        self.script = iter(())
        self.meanwhile = lambda: None

    def append(self, partition, records):
        offsets = []
        for key, value in records:
            step = self._step()
            if step == "fail before":
                raise RetryLater(step)
            self.records.append(Record("state", partition, self.next_offset, 0, key, value))
            offsets.append(self.next_offset)
            self.next_offset += 1
            if step == "fail after":
                raise RetryLater(step)
            if step == "crash after":
                raise Crash
        return offsets

    def read(self, partition, start, through):
        assert start <= through < self.next_offset
        at = start
        while at <= through:
            if self._step() == "fail before":
                raise RetryLater("read")
            # What compaction has removed by now is not seen; what comes after `through` is not looked at.
            found = [record for record in self.records if at <= record.offset <= through][:2]
            if not found:
                return
            yield from found
            at = found[-1].offset + 1

    def _step(self):
        step = next(self.script, "go")
        if step == "crash":
            raise Crash
        if step == "compact":
            self.compact(tombstones=False)
        elif step == "compact tombstones":
            self.compact(tombstones=True)
        elif step == "meanwhile":
            script, self.script = self.script, iter(())
            self.meanwhile()
            self.script = script
        return step

    def compact(self, tombstones):
        last = {record.key: record.offset for record in self.records}
        self.records = [
            record
            for record in self.records
            if last[record.key] == record.offset and not (tombstones and record.value is None)
        ]


TROUBLE = (
    ["crash", "crash after"]
    + 3 * ["compact", "compact tombstones", "fail before"]
    + 4 * ["fail after"]
    + 8 * ["meanwhile"]
)


def script_of(seed, calm):
    """What happens at each step: nothing in a share `calm` of them."""
    random = Random(seed)
    while True:
        yield "go" if random.random() < calm else random.choice(TROUBLE)


SEEDS = st.integers(0, 2**32)
CALM = st.sampled_from([0.6, 0.8, 0.9, 0.97])


class Owner:
    """A process that holds the partition, or believes so."""

    def __init__(self, generation):
        self.generation = generation
        self.state = None
        self.next_offset = 0
        self.saved = {}
        self.unsaved = {}
        self.busy = False

    def advance(self, count):
        self.next_offset += count
        now = fold(self.next_offset)
        for name in now.keys() | self.saved.keys():
            if now.get(name) != self.saved.get(name):
                self.unsaved[name] = now.get(name)
        self.saved = now


class StateLogMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.store = MemoryStore()
        self.store.meanwhile = self.someone_else_acts
        self.owners = []
        self.generation = 0
        self.committed = 0
        self.ids = (f"{number:08x}" for number in itertools.count())
        self.turns = itertools.count()

    def someone_else_acts(self):
        idle = [owner for owner in self.owners if not owner.busy and owner.state is not None]
        if idle:
            turn = next(self.turns)
            owner = idle[turn % len(idle)]
            for _ in range(turn % 3 + 1):
                owner.advance(turn % 4)
                self.barrier_of(owner)
                if turn % 5 == 0:
                    self.store.compact(tombstones=turn % 2 == 0)

    def take_over_by(self, owner):
        """What the shell does: again and again, each time with a hold of its own."""
        owner.state = None
        for _ in range(200):
            state = PartitionState(self.store, 0, owner=next(self.ids), source="log", digest="d")
            try:
                found = state.take_over()
                next_offset = 0 if found is None else found.next_offset
                if owner.generation == self.generation:
                    assert next_offset >= self.committed
                if found is not None:
                    assert found.pages == fold(found.next_offset)
                state.write_all(fold(next_offset), next_offset)
            except (RetryLater, Superseded):
                continue
            owner.state, owner.next_offset = state, next_offset
            owner.saved, owner.unsaved = fold(next_offset), {}
            return
        pytest.fail("take-over never ends")

    def barrier_of(self, owner):
        owner.busy = True
        try:
            next_offset = owner.next_offset
            owner.state.write(dict(owner.unsaved), next_offset)
        except RetryLater:
            return
        except Superseded:
            try:
                self.take_over_by(owner)
            except Crash:
                self.owners.remove(owner)
            return
        except Crash:
            self.owners.remove(owner)
            return
        finally:
            owner.busy = False
        owner.unsaved = {}
        if owner.generation == self.generation:  # else Kafka refuses
            assert next_offset >= self.committed
            self.committed = next_offset

    @rule(seed=SEEDS, calm=CALM)
    def new_owner(self, seed, calm):
        """The group gives the partition to a new process; the old one does not know."""
        self.generation += 1
        self.owner_of(self.generation, script_of(seed, calm))

    @rule(seed=SEEDS, calm=CALM)
    def late_owner(self, seed, calm):
        """A process that was stopped before its take-over goes on; the group has given the partition to another."""
        self.owner_of(self.generation - 1, script_of(seed, calm))

    def owner_of(self, generation, script):
        owner = Owner(generation)
        owner.busy = True
        self.owners = [*self.owners[-2:], owner]
        self.store.script = script
        try:
            self.take_over_by(owner)
        except Crash:
            self.owners.remove(owner)
        owner.busy = False
        self.store.script = iter(())

    @rule(which=st.integers(0, 5), records=st.integers(1, 9), count=st.integers(1, 4), seed=SEEDS, calm=CALM)
    def barriers(self, which, records, count, seed, calm):
        """A process, zombie or not, goes on and makes snapshots."""
        self.store.script = script_of(seed, calm)
        for _ in range(count):
            if self.owners:
                owner = self.owners[which % len(self.owners)]
                owner.advance(records)
                self.barrier_of(owner)
        self.store.script = iter(())

    @rule(which=st.integers(0, 20))
    def kill(self, which):
        if which < len(self.owners):
            self.owners.remove(self.owners[which])

    @rule(tombstones=st.booleans())
    def compact(self, tombstones):
        self.store.compact(tombstones)

    def teardown(self):
        if hasattr(self, "store"):
            self.new_owner(0, 1.0)
            assert self.owners[-1].next_offset >= self.committed


StateLogMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25)
test_any_interleaving_restores_the_fold = StateLogMachine.TestCase


def hold(store, owner, on_broken=lambda why: None):
    return PartitionState(store, 0, owner=owner, source="log", digest="d", on_broken=on_broken, new_shelf=PageShelf)


def test_zombie_writes_under_its_old_epoch_are_ignored():
    store = MemoryStore()
    zombie = hold(store, "a1")
    assert zombie.take_over() is None
    zombie.write_all(fold(0), 0)
    heir = hold(store, "b2")
    assert heir.take_over().next_offset == 0
    heir.write_all(fold(0), 0)
    heir.write(fold(9), 9)
    with pytest.raises(Superseded):
        zombie.write(fold(4), 4)
    with pytest.raises(Superseded):
        zombie.write(fold(5), 5)
    heir.write(fold(11), 11)
    assert hold(store, "c3").take_over().next_offset == 11


def test_broken_snapshot_is_passed_over_and_told():
    store = MemoryStore()
    first = hold(store, "a1")
    first.take_over()
    first.write_all(fold(3), 3)
    second = hold(store, "b2")
    second.take_over()
    second.write(fold(7), 7)  # dies before it removes what the first one left
    page = next(r for r in reversed(store.records) if b"page" in r.key)
    store.append(0, [(page.key, page.value[:-1])])
    told = []
    found = hold(store, "c3", told.append).take_over()
    assert found.next_offset == 3
    assert found.pages == fold(3)
    assert len(told) == 1
    assert "epoch 2" in told[0]


def test_page_that_is_not_the_manifests_is_noticed():
    store = MemoryStore()
    first = hold(store, "a1")
    first.take_over()
    first.write_all({"page": b"1"}, 3)
    page = next(r for r in reversed(store.records) if b"page" in r.key)
    store.append(0, [(page.key, frame(b"2"))])
    told = []
    assert hold(store, "b2", told.append).take_over() is None
    assert len(told) == 1


def test_state_of_another_log_is_not_taken():
    store = MemoryStore()
    first = hold(store, "a1")
    first.take_over()
    first.write_all(fold(3), 3)
    told = []
    other = PartitionState(store, 0, owner="b2", source="log made again", digest="d", on_broken=told.append)
    assert other.take_over() is None
    assert len(told) == 1


def test_take_over_removes_what_older_owners_left():
    store = MemoryStore()
    for number in range(5):
        state = hold(store, f"a{number}")
        state.take_over()
        state.write_all(fold(20), 20)
    store.compact(tombstones=True)
    assert {record.key.split(b"|")[1] for record in store.records} == {b"a4"}

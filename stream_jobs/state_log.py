"""The state of one partition on a compacted topic: snapshots by owner epoch, atomic, safe from zombies and compaction.

Owns the protocol (docs/decisions/0002-state-log.md). Blocks: the shell calls it in threads. Reads no clock.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from infra.ports import Record, RetryLater
from stream_jobs.state_records import BrokenState, StateKey, crc_of, frame, frame_json, unframe, unframe_json

LOG = logging.getLogger(__name__)
CLAIMS_MAX = 20
"""How often a take-over claims when others write at the same time. Owners write every few seconds."""
TOMBSTONES_PER_APPEND = 500
APPEND_BYTES = 8 * 2**20
"""Pages handed over at once: a whole state need not fit in memory."""


class StateStore(Protocol):
    """A compacted topic, as the protocol needs it. Thread-safe; blocks."""

    def append(self, partition: int, records: Sequence[tuple[bytes, bytes | None]]) -> list[int]:
        """Append in order and wait until all are durable; their offsets. Raises RetryLater, after which each of them
        may or may not be in the log."""

    def read(self, partition: int, start: int, through: int) -> Iterator[Record]:
        """Records still there from offset `start` to `through`, which must be the offset of a record that was
        appended by the caller. Raises RetryLater."""


class Superseded(Exception):
    """Another owner claimed the partition's state since: what was written here counts no more. Take over again."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state that was found: pages by name, read when they are asked for, and the source offset below which everything
    is inside."""

    pages: Mapping[str, bytes]
    next_offset: int
    sequence: int
    digest: str


@dataclass(slots=True)
class _Owner:
    """What one owner left in the log: the last record of each of its keys. `pages` are by name and slot, and say where
    on the shelf their records are."""

    claimed: bool = False
    manifest: bytes | None = None
    pages: dict[tuple[str, int], str] = field(default_factory=dict)
    keys: set[bytes] = field(default_factory=set)


class _SnapshotPages(Mapping[str, bytes]):
    """Pages of a snapshot that was found whole, by name, where their records are on the shelf."""

    def __init__(self, shelf: Mapping[str, bytes], places: Mapping[str, str]) -> None:
        self._shelf, self._places = shelf, places

    def __getitem__(self, name: str) -> bytes:
        return unframe(self._shelf[self._places[name]])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class _Fold:
    """The log so far, last record per key, by (epoch, owner). Pages go to `shelf`; without one they are not kept."""

    def __init__(self, start: int = 0, shelf: MutableMapping[str, bytes] | None = None) -> None:
        self.owners: dict[tuple[int, str], _Owner] = {}
        self.shelf = shelf
        self.next_offset = start
        self.epoch_max = 0

    def add(self, records: Iterable[Record]) -> None:
        for record in records:
            self.next_offset = record.offset + 1
            key = StateKey.parse(record.key)
            if key is None:
                LOG.error("state log: unknown key %r at offset %d is ignored", record.key, record.offset)
                continue
            self.epoch_max = max(self.epoch_max, key.epoch)
            owner = self.owners.setdefault((key.epoch, key.owner), _Owner())
            if record.value is None:
                owner.keys.discard(record.key or b"")
            else:
                owner.keys.add(record.key or b"")
            if key.kind == "claim":
                owner.claimed = record.value is not None
            elif key.kind == "manifest":
                owner.manifest = record.value
            elif self.shelf is None:
                continue
            elif record.value is None:
                if place := owner.pages.pop((key.name, key.slot), None):
                    del self.shelf[place]
            else:
                owner.pages[key.name, key.slot] = place = f"{key.epoch}|{key.owner}|{key.name}|{key.slot}"
                self.shelf[place] = record.value

    def rival(self, epoch: int, owner: str) -> bool:
        """Whether someone else claimed this epoch or a higher one."""
        return any(
            other_epoch >= epoch and other != owner and one.claimed for (other_epoch, other), one in self.owners.items()
        )


class PartitionState:
    """One owner's hold on one partition's state. `take_over`, `write_all` once, then `write` at every barrier.

    Used by one thread at a time. `Superseded` is for good: the partition must be taken over anew.
    """

    def __init__(
        self,
        store: StateStore,
        partition: int,
        *,
        owner: str,
        source: str,
        digest: str,
        on_broken: Callable[[str], None] = lambda why: None,
        new_shelf: Callable[[], MutableMapping[str, bytes]] = dict,
    ) -> None:
        """`owner` is unique to this take-over; `source` names the log folded (cluster and topic id); `digest` the
        configuration; `on_broken` is told of snapshots that had to be passed over. `new_shelf` makes the place where a
        take-over keeps the pages that it reads: they are all that owners left, and need not fit in memory."""
        self._store, self._partition = store, partition
        self._owner, self._source, self._digest = owner, source, digest
        self._on_broken, self._new_shelf = on_broken, new_shelf
        self._fold: _Fold | None = None
        self.passed_over: tuple[str, ...] = ()
        """Why newer snapshots than the one that `take_over` found are not used: they are broken, or of another log."""
        self.epoch = 0
        self._durable: dict[str, tuple[int, int]] = {}
        self._sequence = 0
        self._end = 0
        self._unsettled: tuple[bytes, dict[str, tuple[int, int]]] | None = None
        self._superseded = False

    def take_over(self) -> Snapshot | None:
        """Claim the state above everyone seen and find the newest whole snapshot; None when there is none.

        Raises RetryLater; calling again is then safe.
        """
        fold = self._fold = _Fold(shelf=self._new_shelf())
        # A record of our own to read up to: the log's last ones may have been compacted away.
        self._claim(fold, epoch=0)
        self._read_until_quiet(lambda: self._claim(fold, fold.epoch_max + 1))
        self.epoch, self._end = fold.epoch_max, fold.next_offset
        found, broken = self._newest(fold)
        self.passed_over = tuple(broken)
        for why in broken:
            LOG.error("state of partition %d: %s", self._partition, why)
            self._on_broken(why)
        self._sequence = 0 if found is None else found.sequence
        return found

    def write_all(self, pages: Mapping[str, bytes], next_offset: int) -> None:
        """Write the whole state under the new epoch, then remove what older owners left.

        Raises RetryLater (call again) and Superseded.
        """
        self.write(pages, next_offset)
        fold, self._fold = self._fold, None
        if fold is None:
            return
        mine = (self.epoch, self._owner)
        old = sorted(key for who, one in fold.owners.items() if who[0] < self.epoch and who != mine for key in one.keys)
        for at in range(0, len(old), TOMBSTONES_PER_APPEND):
            chunk: list[tuple[bytes, bytes | None]] = [(key, None) for key in old[at : at + TOMBSTONES_PER_APPEND]]
            offsets = self._store.append(self._partition, chunk)
            self._check_alone(offsets)

    def write(self, dirty: Mapping[str, bytes] | Mapping[str, bytes | None], next_offset: int) -> None:
        """Make a snapshot durable: changed pages (None: gone) beside the referenced ones, then the manifest flips.

        Raises RetryLater; the caller then calls again with these pages and any changed since. Raises Superseded when
        another owner has claimed in between: the snapshot must then not be followed by a commit.
        """
        if self._superseded:
            raise Superseded(f"partition {self._partition}: epoch {self.epoch} was claimed over before")
        if self._unsettled is not None:
            # A manifest of unknown fate may already be the durable one, and its pages must not be touched.
            self._settle()
        durable = dict(self._durable)
        records: list[tuple[bytes, bytes | None]] = []
        size = 0
        for name, body in dirty.items():
            held = durable.pop(name, None)
            if body is not None:
                slot = 0 if held is None else 1 - held[0]
                durable[name] = (slot, crc_of(body))
                records.append((self._key("page", name, slot), frame(body)))
                size += len(body)
            if size > APPEND_BYTES:
                self._check_alone(self._store.append(self._partition, records))
                records, size = [], 0
        if records:
            self._check_alone(self._store.append(self._partition, records))
        manifest = {
            "pages": {name: list(where) for name, where in durable.items()},
            "next_offset": next_offset,
            "sequence": self._sequence + 1,
            "digest": self._digest,
            "source": self._source,
        }
        self._unsettled = (frame_json(manifest), durable)
        self._settle()

    def _settle(self) -> None:
        if self._unsettled is None:
            return
        manifest, durable = self._unsettled
        offsets = self._store.append(self._partition, [(self._key("manifest"), manifest)])
        gone = [name for name in self._durable if name not in durable]
        self._durable, self._unsettled = durable, None
        self._sequence += 1
        self._check_alone(offsets)
        if gone:
            slots = [(self._key("page", name, slot), None) for name in gone for slot in (0, 1)]
            self._check_alone(self._store.append(self._partition, slots))

    def _check_alone(self, offsets: Sequence[int]) -> None:
        """Own records at the expected offsets: nobody else wrote. Else look whether someone claimed."""
        if len(offsets) == max(offsets) + 1 - self._end:
            self._end += len(offsets)
            return
        fold = _Fold(self._end)
        self._read_until_quiet(lambda: self._claim(fold, epoch=0))
        if fold.rival(self.epoch, self._owner):
            self._superseded = True
            raise Superseded(f"partition {self._partition}: epoch {self.epoch} was claimed over")
        self._end = fold.next_offset

    def _read_until_quiet(self, claim: Callable[[], bool]) -> None:
        for _ in range(CLAIMS_MAX):
            if claim():
                return
        raise RetryLater(f"state of partition {self._partition}: others keep writing to it")

    def _claim(self, fold: _Fold, epoch: int) -> bool:
        """Append a claim and read up to it. Whether nobody had written since the last time.

        Only then is the fold what the log says: compaction may remove a record before it is read, because a later
        one, not read yet, took its place.
        """
        key = StateKey(epoch, self._owner, "claim").encode()
        value = frame_json({})
        offset = self._store.append(self._partition, [(key, value)])[0]
        if offset == fold.next_offset:
            fold.add([Record("", self._partition, offset, 0, key, value)])
            return True
        fold.add(self._store.read(self._partition, fold.next_offset, offset))
        return False

    def _newest(self, fold: _Fold) -> tuple[Snapshot | None, list[str]]:
        broken: list[str] = []
        for (epoch, owner), one in sorted(fold.owners.items(), reverse=True):
            if one.manifest is None:
                continue
            try:
                return self._whole(one, fold.shelf or {}, unframe_json(one.manifest)), broken
            except BrokenState as why:
                broken.append(f"snapshot of epoch {epoch} by {owner} is passed over: {why}")
        return None, broken

    def _whole(self, owner: _Owner, shelf: Mapping[str, bytes], manifest: dict[str, Any]) -> Snapshot:
        if manifest.get("source") != self._source:
            raise BrokenState(f"it folds {manifest.get('source')!r}, not {self._source!r}")
        places = {}
        for name, (slot, crc) in manifest["pages"].items():
            place = owner.pages.get((name, slot))
            if place is None:
                raise BrokenState(f"page {name} is missing")
            if zlib.crc32(unframe(shelf[place])) != crc:
                raise BrokenState(f"page {name} is not the one of the manifest")
            places[name] = place
        pages = _SnapshotPages(shelf, places)
        return Snapshot(pages, manifest["next_offset"], manifest["sequence"], manifest["digest"])

    def _key(self, kind: str, name: str = "", slot: int = 0) -> bytes:
        return StateKey(self.epoch, self._owner, kind, name, slot).encode()

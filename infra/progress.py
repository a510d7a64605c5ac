"""How far one owned partition is done: begun in order, settled in any order, a contiguous prefix to commit. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Receipt:
    """One record on its way: settled once for each delivery that it owes."""

    progress: Progress
    offset: int

    def settle(self) -> None:
        """One of the record's deliveries is durable."""
        self.progress.settle(self.offset)

    def is_alive(self) -> bool:
        """False when the partition was given up since: the record is somebody else's, answer nothing."""
        return not self.progress.closed


@dataclass(frozen=True, slots=True)
class Receipts:
    """Records of one partition that owe a delivery together: as a `Receipt` of each."""

    progress: Progress
    offsets: Sequence[int]

    def settle(self) -> None:
        """The delivery is durable."""
        self.progress.settle_all(self.offsets)

    def is_alive(self) -> bool:
        """See `Receipt.is_alive`."""
        return not self.progress.closed


class Progress:
    """Offsets of one partition, from its assignment to its revocation. Offsets may have gaps (a compacted topic)."""

    def __init__(self, topic: str, partition: int, deliveries: int) -> None:
        """`deliveries`: how often each offset must be settled before it is done, at least 1."""
        self.topic = topic
        self.partition = partition
        self.closed = False
        self._deliveries = deliveries
        self._begun: deque[tuple[int, int]] = deque()  # with when they were appended
        self._owed: dict[int, int] = {}
        self._untouched = 0
        self._last = -1
        self._next_offset: int | None = None

    def follows(self, offset: int) -> bool:
        """True when `offset` comes after all begun ones, as a log's next record must."""
        return offset > self._last

    def begin(self, offset: int, appended_ms: int = 0) -> Receipt:
        """A record was consumed, appended at that epoch millisecond. Offsets must rise."""
        if not self.follows(offset):
            raise ValueError(f"{self.topic}[{self.partition}]: offset {offset} after {self._last}")
        self._last = offset
        self._begun.append((offset, appended_ms))
        self._owed[offset] = self._deliveries
        self._untouched += 1
        return Receipt(self, offset)

    def settle(self, offset: int) -> None:
        """One delivery of an offset is durable. Ignored after `close`. Raises ValueError for one settled too often."""
        self.settle_all((offset,))

    def settle_all(self, offsets: Iterable[int]) -> None:
        """One delivery of each of these offsets is durable; see `settle`."""
        if self.closed:
            return
        owed, begun, whole = self._owed, self._begun, self._deliveries
        for offset in offsets:
            left = owed.get(offset, 0)
            if left == whole:
                self._untouched -= 1
            elif left == 0:
                raise ValueError(f"{self.topic}[{self.partition}]: offset {offset} was settled more often than it owes")
            owed[offset] = left - 1
        while begun and owed[begun[0][0]] == 0:
            done, _ = begun.popleft()
            del owed[done]
            self._next_offset = done + 1

    def owes_all_of_any(self, offsets: Iterable[int]) -> bool:
        """Whether of any of these offsets no delivery is durable yet."""
        return self._deliveries in map(self._owed.get, offsets)

    @property
    def unfinished(self) -> int:
        """Records from the first that is not done to the last that was begun."""
        return len(self._owed)

    @property
    def untouched(self) -> int:
        """Records of which nothing is delivered yet."""
        return self._untouched

    @property
    def oldest_ms(self) -> int | None:
        """When the oldest record that is not done was appended; None: all are. From any thread."""
        try:
            return self._begun[0][1]
        except IndexError:
            return None

    def take_next_offset(self) -> int | None:
        """The offset after the done prefix when it has moved since last asked, else None."""
        moved, self._next_offset = self._next_offset, None
        return moved

    def close(self) -> None:
        """The partition was given up."""
        self.closed = True
        self._begun.clear()
        self._owed.clear()
        self._untouched = 0

    def __len__(self) -> int:
        return len(self._begun)

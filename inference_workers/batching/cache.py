"""Results that were computed before: bounded by bytes, least recently used first out, by model and content."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from inference_workers.batching.compute import Row
from inference_workers.ports import Tokens

ENTRY_BYTES = 420
"""What an entry takes besides its key and numbers: measured for a float32 row of its own, its `Row` and the table."""


@dataclass(slots=True)
class ResultCache:
    """Rows by (model, content). Used by one thread. `bytes_max` 0 keeps nothing.

    A model is named by what its results depend on (digest, dtype, limits), so a new version never gets an old row.
    """

    bytes_max: int
    bytes_held: int = field(default=0, init=False)
    evictions: int = field(default=0, init=False)
    _rows: OrderedDict[tuple[bytes, bytes], tuple[Row, int]] = field(default_factory=OrderedDict, init=False)

    def get(self, model: bytes, content: bytes) -> Row | None:
        """The row, now the most recently used; None when it is not there."""
        if not self.bytes_max:
            return None
        key = model, content
        found = self._rows.get(key)
        if found is None:
            return None
        self._rows.move_to_end(key)
        return found[0]

    def put(self, model: bytes, content: bytes, row: Row) -> None:
        """Keep a row. A row larger than a hundredth of the cache is not kept: it would push out too much."""
        size = ENTRY_BYTES + len(content) + _size(row)
        if size * 100 > self.bytes_max:
            return
        key = model, content
        old = self._rows.pop(key, None)
        if old is not None:
            self.bytes_held -= old[1]
        # A copy: a row of a batch is a view that would keep the whole batch alive.
        kept = row if isinstance(row.value, Tokens) else Row(row.value.copy(), row.norm, row.direction)
        self._rows[key] = kept, size
        self.bytes_held += size
        while self.bytes_held > self.bytes_max:
            _, (_, gone) = self._rows.popitem(last=False)
            self.bytes_held -= gone
            self.evictions += 1

    def forget(self, model: bytes) -> None:
        """Drop the rows of a model that was unloaded."""
        for key in [key for key in self._rows if key[0] == model]:
            self.bytes_held -= self._rows.pop(key)[1]

    def __len__(self) -> int:
        return len(self._rows)


def _size(row: Row) -> int:
    value = row.value
    return 40 * len(value.ids) if isinstance(value, Tokens) else int(value.nbytes)

"""Columns of many rows as arrays: coded names and packed texts beside numpy's numbers, joined, cut and hashed whole.

Each is a sequence of plain Python values too, so that whoever does not know them can read them as any list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

Column = Sequence[Any] | NDArray[Any]
"""A column of a table: a list, an array of numbers (NaN in a nullable column: null), `Coded` or `Texts`."""


class Hash(Protocol):
    """As hashlib makes them."""

    def update(self, data: Any, /) -> None:
        """Take in bytes."""


class Coded(Sequence[str]):
    """Few different texts, many rows: row i is `names[codes[i]]`. Names need not be different or all used."""

    __slots__ = ("codes", "names")

    def __init__(self, names: Sequence[str], codes: NDArray[np.int32]) -> None:
        self.names, self.codes = tuple(names), codes

    @classmethod
    def same(cls, name: str, count: int) -> Coded:
        """So many rows of one text."""
        return cls((name,), np.zeros(count, dtype=np.int32))

    @classmethod
    def of(cls, values: Sequence[str]) -> Coded:
        """These texts."""
        places: dict[str, int] = {}
        codes = [places.setdefault(value, len(places)) for value in values]
        return cls(tuple(places), np.array(codes, dtype=np.int32))

    @classmethod
    def joined(cls, parts: Sequence[Coded]) -> Coded:
        """All rows of all parts."""
        if all(part.names == parts[0].names for part in parts):
            return cls(parts[0].names, np.concatenate([part.codes for part in parts]))
        places: dict[str, int] = {}
        codes = []
        for part in parts:
            moved = np.array([places.setdefault(name, len(places)) for name in part.names], dtype=np.int32)
            codes.append(moved[part.codes])
        return cls(tuple(places), np.concatenate(codes))

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Coded: ...
    def __getitem__(self, index: int | slice) -> str | Coded:
        if isinstance(index, slice):
            return Coded(self.names, self.codes[index])
        name: str = self.names[self.codes[index]]
        return name

    def __iter__(self) -> Iterator[str]:
        names = self.names
        return iter([names[code] for code in self.codes.tolist()])

    def hash_into(self, digest: Hash) -> None:
        """Take the content into a hash."""
        digest.update(repr(self.names).encode("utf-8", "backslashreplace") + b"coded")
        digest.update(np.ascontiguousarray(self.codes))


class Texts(Sequence[str]):
    """Texts end to end as UTF-8: row i is `data[ends[i-1]:ends[i]]`, the first one from 0."""

    __slots__ = ("data", "ends")

    def __init__(self, data: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.data, self.ends = data, ends

    @classmethod
    def of(cls, values: Sequence[str]) -> Texts:
        """These texts. Raises UnicodeEncodeError for a lone surrogate."""
        raw = [value.encode() for value in values]
        ends = np.cumsum([len(one) for one in raw], dtype=np.int64)
        return cls(np.frombuffer(b"".join(raw), dtype=np.uint8), ends)

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Texts:
        """All rows of all parts."""
        starts = np.cumsum([0, *(len(part.data) for part in parts[:-1])])
        ends = [part.ends + start for part, start in zip(parts, starts.tolist(), strict=True)]
        return cls(np.concatenate([part.data for part in parts]), np.concatenate(ends))

    def chosen(self, rows: NDArray[np.int64]) -> Texts:
        """These rows, in this order."""
        return Texts.of([self[row] for row in rows.tolist()])

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Texts: ...
    def __getitem__(self, index: int | slice) -> str | Texts:
        if isinstance(index, slice):
            first, after, step = index.indices(len(self))
            if step != 1:
                return Texts.of([self[row] for row in range(first, after, step)])
            begin = int(self.ends[first - 1]) if first else 0
            end = int(self.ends[after - 1]) if after > first else begin
            return Texts(self.data[begin:end], self.ends[first:after] - begin)
        row = range(len(self))[index]
        begin = int(self.ends[row - 1]) if row else 0
        return bytes(self.data[begin : int(self.ends[row])]).decode()

    def __iter__(self) -> Iterator[str]:
        raw, begin = self.data.tobytes(), 0
        for end in self.ends.tolist():
            yield raw[begin:end].decode()
            begin = end

    def not_empty(self) -> list[tuple[int, str]]:
        """Number and text of the rows that have one."""
        raw, ends = self.data.tobytes(), np.concatenate((np.zeros(1, dtype=np.int64), self.ends))
        rows = np.flatnonzero(ends[1:] != ends[:-1])
        spans = zip(rows.tolist(), ends[rows].tolist(), ends[rows + 1].tolist(), strict=True)
        return [(row, raw[begin:end].decode()) for row, begin, end in spans]

    def hash_into(self, digest: Hash) -> None:
        """Take the content into a hash."""
        digest.update(b"texts")
        digest.update(np.ascontiguousarray(self.ends))
        digest.update(np.ascontiguousarray(self.data))


def is_packed(column: Column) -> bool:
    """Whether it is one of the kinds that are stored whole."""
    return isinstance(column, (np.ndarray, Coded, Texts))


def joined(parts: Sequence[Column]) -> Column:
    """The rows of all parts as one column; a list where they are of different kinds."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, Coded) for part in parts):
        return Coded.joined(parts)  # type: ignore[arg-type]
    if all(isinstance(part, Texts) for part in parts):
        return Texts.joined(parts)  # type: ignore[arg-type]
    if all(isinstance(part, np.ndarray) for part in parts) and len({part.dtype for part in parts}) == 1:  # type: ignore[union-attr]
        return np.concatenate(parts)
    return [value for part in parts for value in plain(part)]


def plain(column: Column) -> list[Any]:
    """The column as a list of Python values."""
    return column.tolist() if isinstance(column, np.ndarray) else list(column)


def hash_into(digest: Hash, column: Column) -> bool:
    """Take a packed column into a hash; False for one that is not packed."""
    if isinstance(column, np.ndarray):
        digest.update(column.dtype.str.encode())
        digest.update(np.ascontiguousarray(column))
        return True
    if isinstance(column, (Coded, Texts)):
        column.hash_into(digest)
        return True
    return False

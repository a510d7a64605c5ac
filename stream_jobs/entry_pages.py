"""State pages of entries that have numbers beside their JSON, as bytes: of all entries of a page, column by column.

What means the same lies together, and text and numbers are packed apart: both take fewer bytes so. Knows nothing of
what an entry means.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from stream_jobs.packing import packed, unpacked
from stream_jobs.pages import unpack
from stream_jobs.stage import PAGE_BYTES_MAX

FORMAT = 2
"""Pages of JSON alone are of format 1: entries without numbers."""
_HEADER = struct.Struct("<4sI")
_MAGIC = b"IWP2"
_ROOM = PAGE_BYTES_MAX - 1_024


@dataclass(frozen=True, slots=True)
class Entry:
    """Plain JSON values, floats exact, and numbers as bytes by the name of their column."""

    plain: Any
    numbers: Mapping[str, bytes] = field(default_factory=dict)


Columns = Mapping[str, int]
"""The names of all columns, in order, and how many bytes of an entry stay together: 8 for float64, of which many are
equal to one elsewhere; 1 for smaller numbers, which differ in their last bytes."""
_SIZES = (1, 8)


def pack_entries(entries: Sequence[Entry], columns: Columns) -> list[bytes]:
    """Pages of at most PAGE_BYTES_MAX bytes each. Raises ValueError for an entry that alone is larger than a page."""
    if not entries:
        return []
    text, numbers = _parts(entries, columns)
    size = len(text) + len(numbers)
    if size <= _ROOM:
        return [_page(text, numbers)]
    if len(entries) == 1:
        raise ValueError(f"a state entry of {size} bytes does not fit a page")
    half = len(entries) // 2
    return [*pack_entries(entries[:half], columns), *pack_entries(entries[half:], columns)]


def unpack_entries(pages: Iterable[bytes]) -> list[Entry]:
    """The entries that `pack_entries` was given, or `pages.pack`. Raises ValueError when a page is cut, altered or of
    another format."""
    found: list[Entry] = []
    for page in pages:
        found.extend(_entries(page) if is_of_entries(page) else map(Entry, unpack([page])))
    return found


def packed_entry(entry: Entry, columns: Columns) -> bytes:
    """A single entry, of any size."""
    return _page(*_parts([entry], columns))


def unpacked_entry(page: bytes) -> Entry:
    """The inverse of `packed_entry`. Raises ValueError when it is cut, altered or of another format."""
    (entry,) = _entries(page)
    return entry


def is_of_entries(page: bytes) -> bool:
    """Whether a page says that it is one of these."""
    return page.startswith(_MAGIC)


def _parts(entries: Sequence[Entry], columns: Columns) -> tuple[bytes, bytes]:
    """The text in one line, which lists the columns with the lengths of all entries' bytes there, and the columns.
    Raises ValueError for numbers of no column."""
    listed: list[tuple[str, int, list[int]]] = []
    turned: list[bytes] = []
    taken = 0
    for name, size in columns.items():
        found = [entry.numbers.get(name) for entry in entries]
        lengths = [-1 if one is None else len(one) for one in found]
        taken += len(lengths) - lengths.count(-1)
        listed.append((name, size, lengths))
        width = _width(lengths, size)
        rows = b"".join([(one or b"").ljust(width, b"\0") for one in found])
        turned.append(_turned(rows, size, len(entries), width // size))
    if taken != sum(len(entry.numbers) for entry in entries):
        raise ValueError(f"a state entry has numbers that are in none of the columns {', '.join(columns)}")
    text = {"format": FORMAT, "columns": listed, "entries": [entry.plain for entry in entries]}
    return orjson.dumps(text, option=orjson.OPT_APPEND_NEWLINE), b"".join(turned)


def _page(text: bytes, numbers: bytes) -> bytes:
    body = packed(text) + (packed(numbers) if numbers else b"")
    return _HEADER.pack(_MAGIC, zlib.crc32(body)) + body


def _entries(page: bytes) -> list[Entry]:
    if len(page) < _HEADER.size:
        raise ValueError("state page: shorter than its header")
    magic, crc = _HEADER.unpack_from(page)
    body = page[_HEADER.size :]
    if magic != _MAGIC or zlib.crc32(body) != crc:
        raise ValueError("state page: cut, altered or of another format")
    text, _, numbers = unpacked(body).partition(b"\n")
    try:
        value = orjson.loads(text)
        if value["format"] != FORMAT:
            raise ValueError(f"state page: not of format {FORMAT}")
        columns = {name: (size, lengths) for name, size, lengths in value["columns"]}
        return _joined(value["entries"], columns, numbers)
    except (TypeError, KeyError) as error:
        raise ValueError(f"state page: {error}") from None


def _joined(plain: list[Any], columns: Mapping[str, tuple[int, list[int]]], numbers: bytes) -> list[Entry]:
    found: list[dict[str, bytes]] = [{} for _ in plain]
    begin = 0
    for name, (size, lengths) in columns.items():
        if size not in _SIZES:
            raise ValueError(f"state page: numbers of {size} bytes")
        width = _width(lengths, size)
        rows = _turned(numbers[begin : begin + width * len(plain)], size, width // size, len(plain))
        begin += width * len(plain)
        for at, (one, length) in enumerate(zip(found, lengths, strict=True)):
            if length >= 0:
                one[name] = rows[at * width : at * width + length]
    if begin != len(numbers):
        raise ValueError(f"state page: {len(numbers)} bytes of numbers, {begin} expected")
    return [Entry(one, by_name) for one, by_name in zip(plain, found, strict=True)]


def _turned(table: bytes, size: int, rows: int, columns: int) -> bytes:
    """A table of numbers of `size` bytes, row by row, column by column. Raises ValueError when it is not so large."""
    if 1 in (rows, columns) and len(table) == size * rows * columns:
        return table
    return np.frombuffer(table, dtype=f"u{size}").reshape(rows, columns).T.tobytes()


def _width(lengths: Iterable[int], size: int) -> int:
    """The longest, in whole numbers of `size` bytes: shorter ones are filled up."""
    longest = max(0, *lengths)
    return -(-longest // size) * size

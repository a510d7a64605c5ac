"""A block of packed columns in ClickHouse's Native format, array by array and not value by value.

The format is ClickHouse's own (docs: interfaces/formats/Native; LowCardinality as its C++ serialisation writes it). A
contract test stores the same rows through the client's own writer and compares.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.columns import Coded, Column, Texts, is_packed

_NUMBERS: dict[str, np.dtype[Any]] = {
    "UInt32": np.dtype("<u4"),
    "UInt64": np.dtype("<u8"),
    "Float64": np.dtype("<f8"),
    "DateTime64(3, 'UTC')": np.dtype("<i8"),
    "Bool": np.dtype("?"),
}
Bytes = bytes | memoryview
_NULLABLE = "Nullable(Float64)"
_STRINGS = ("String", "LowCardinality(String)")
_DICTIONARY_VERSION = 1
_ADDITIONAL_KEYS, _NEW_DICTIONARY = 1 << 9, 1 << 10
_INDEX_TYPES = (np.dtype("u1"), np.dtype("<u2"), np.dtype("<u4"))
"""In the order of the format's codes for them."""


def encoded(columns: Mapping[str, Column], types: Mapping[str, str]) -> bytes | None:
    """The block; None when a column is not packed, or of a kind or type that is not written here.

    Raises ValueError for a number that its column cannot hold: conversion would wrap it around.
    """
    kinds = {name: types.get(name, "") for name in columns}
    if not all(is_packed(column) and _can_write(column, kinds[name]) for name, column in columns.items()):
        return None
    rows = len(next(iter(columns.values())))
    parts: list[Bytes] = [_count(len(columns)), _count(rows)]
    for name, column in columns.items():
        parts += (_text(name), _text(kinds[name]))
        if isinstance(column, Coded):
            parts += _low_cardinality(column) if kinds[name] == _STRINGS[1] else [packed_texts(Texts.of(list(column)))]
        elif isinstance(column, Texts):
            parts += _low_cardinality(Coded.of(list(column))) if kinds[name] == _STRINGS[1] else [packed_texts(column)]
        else:
            parts += _numbers(name, np.asarray(column), kinds[name])
    return b"".join(parts)


def _can_write(column: Column, kind: str) -> bool:
    if isinstance(column, (Coded, Texts)):
        return kind in _STRINGS
    number_kinds = "f" if kind == _NULLABLE else {"Bool": "b", "Float64": "f"}.get(kind, "iu")
    return (kind in _NUMBERS or kind == _NULLABLE) and np.asarray(column).dtype.kind in number_kinds


def _numbers(name: str, column: NDArray[Any], kind: str) -> list[Bytes]:
    if kind == _NULLABLE:
        missing = np.isnan(column)
        return [missing.data, np.where(missing, 0.0, column).astype("<f8").data]
    wanted = _NUMBERS[kind]
    if wanted.kind in "iu" and len(column):
        limits, least, most = np.iinfo(wanted), int(column.min()), int(column.max())
        if least < limits.min or most > limits.max:
            raise ValueError(f"{name}: {least} to {most} does not fit {kind}")
        if column.dtype.itemsize == wanted.itemsize and column.dtype.isnative:
            wanted = column.dtype  # the same bytes
    return [np.ascontiguousarray(column, dtype=wanted).data]


def _low_cardinality(column: Coded) -> list[Bytes]:
    """A dictionary whose entries are different, and an index into it for each row."""
    places: dict[str, int] = {}
    moved = np.array([places.setdefault(name, len(places)) for name in column.names], dtype=np.int64)
    number = 0 if len(places) <= 1 << 8 else 1 if len(places) <= 1 << 16 else 2
    head = struct.pack("<QQQ", _DICTIONARY_VERSION, _ADDITIONAL_KEYS | _NEW_DICTIONARY | number, len(places))
    index = moved.astype(_INDEX_TYPES[number])[column.codes]
    return [head, *(_text(name) for name in places), struct.pack("<Q", len(column)), index.data]


def packed_texts(column: Texts) -> Bytes:
    """Each text after its length, as a String column has them."""
    lengths = np.diff(column.ends, prepend=0)
    if not len(lengths):
        return b""
    if int(lengths.max()) >= 1 << 7:  # a length of two bytes or more: rare
        return b"".join(_text(text) for text in column)
    packed = np.empty(len(column.data) + len(lengths), dtype=np.uint8)
    heads = np.zeros(len(packed), dtype=np.bool_)
    heads[column.ends - lengths + np.arange(len(lengths))] = True
    packed[heads], packed[~heads] = lengths, column.data
    return packed.data


def _text(text: str) -> bytes:
    raw = text.encode()
    return _count(len(raw)) + raw


def _count(number: int) -> bytes:
    """A whole number as the format writes lengths: seven bits a byte, least first (LEB128)."""
    digits = bytearray()
    while number >= 1 << 7:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)

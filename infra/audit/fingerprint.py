"""A 64-bit fingerprint of a row's content, made alike by ClickHouse and here, so that an altered row is seen.

Each column in turn: hash = (hash XOR value) x prime, modulo 2^64, as FNV-1a does with bytes. Every step is one to one,
so a row in which one column differs never has the same fingerprint. Texts are taken as the first 8 bytes of their MD5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.tables import Column

PRIME = 1_099_511_628_211
SEED = 14_695_981_039_346_656_037
MISSING = 0x7FF8_0000_DEAD_BEEF
"""Stands for a null: a NaN that no number is stored as."""
Prints = NDArray[np.uint64]
_TIME = "DateTime64(3, 'UTC')"


def sql(columns: Sequence[Column]) -> str:
    """The ClickHouse expression of the fingerprint over these columns. Raises KeyError for a type not known here."""
    found = f"toUInt64({SEED})"
    for column in columns:
        found = f"bitXor({found}, {_sql_value(column)}) * toUInt64({PRIME})"
    return found


def prints_of(columns: Sequence[Column], values: Mapping[str, Sequence[Any]]) -> Prints:
    """The fingerprints of rows given column by column as plain values; times as epoch milliseconds."""
    rows = len(values[columns[0].name])
    found = np.full(rows, SEED, dtype=np.uint64)
    for column in columns:
        found = (found ^ _value(column.type, values[column.name])) * np.uint64(PRIME)
    return found


def _sql_value(column: Column) -> str:
    name = f"`{column.name}`"
    number = f"reinterpretAsUInt64(if({name} = 0, 0., {name}))"  # minus zero is zero
    return {
        "String": f"reinterpretAsUInt64(substring(MD5({name}), 1, 8))",
        "LowCardinality(String)": f"reinterpretAsUInt64(substring(MD5(toString({name})), 1, 8))",
        "UInt32": f"toUInt64({name})",
        "UInt64": name,
        "Bool": f"toUInt64({name})",
        "Float64": number,
        "Nullable(Float64)": f"if(isNull({name}), toUInt64({MISSING}), "
        f"reinterpretAsUInt64(if(assumeNotNull({name}) = 0, 0., assumeNotNull({name}))))",
        _TIME: f"toUInt64(toUnixTimestamp64Milli({name}))",
    }[column.type]


def _value(kind: str, values: Sequence[Any]) -> Prints:
    if kind in ("String", "LowCardinality(String)"):
        known = {text: _text(text) for text in set(values)}
        return np.array([known[text] for text in values], dtype=np.uint64)
    if kind == "Nullable(Float64)":
        missing = np.array([value is None for value in values], dtype=np.bool_)
        numbers = _number([0.0 if value is None else value for value in values])
        return np.where(missing, np.uint64(MISSING), numbers)
    return _number(values) if kind == "Float64" else np.array(values, dtype=np.uint64)


def _number(values: Sequence[float]) -> Prints:
    numbers = np.array(values, dtype=np.float64)
    numbers[numbers == 0.0] = 0.0
    return numbers.view(np.uint64)


def _text(text: str) -> int:
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[:8], "little")

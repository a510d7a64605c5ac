"""Cells of a file as times and numbers: whole columns at once, and cell by cell where one of them is broken."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MISSING_WORDS = ("", "na", "n/a", "nan", "null", "none")
"""Cells of text that mean: there is no value. In any case of letters."""
MS_MAX = 8e15
UNITS_TO_MS = ((1e11, 1e3), (1e14, 1.0), (1e17, 1e-3), (math.inf, 1e-6))
"""Times below so much are in seconds, ms, us, ns: each reads as a year between 1973 and 5138."""


def numbers(column: pa.Array) -> tuple[Floats, list[int]]:
    """A column as floats, NaN where there is no value, and the rows whose cell is no number."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not _is_text(column.type):
        as_floats = column.cast(pa.float64(), safe=False)
        return as_floats.fill_null(math.nan).to_numpy(zero_copy_only=False), []
    try:
        return column.cast(pa.float64()).fill_null(math.nan).to_numpy(zero_copy_only=False), []
    except pa.ArrowInvalid:
        return _one_by_one(column, _number)


class TimeReader:
    """Times of a file in ms since 1970. The unit of plain numbers is that of the first one, for the whole file."""

    def __init__(self) -> None:
        self._to_ms: float | None = None

    def read(self, column: pa.Array) -> tuple[Floats, list[int]]:
        """A column as ms, NaN where there is no usable time, and those rows."""
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            ms = _whole_ms(column).to_numpy(zero_copy_only=False).astype(np.float64)
            ms[column.is_null().to_numpy(zero_copy_only=False)] = math.nan
            bad: list[int] = []
        elif _is_text(column.type):
            ms, bad = self._text(column)
        else:
            ms, bad = numbers(column)
            ms = self._scaled(ms)
        unusable = ~(np.abs(ms) < MS_MAX)
        ms[unusable] = math.nan
        return ms, sorted({*bad, *np.flatnonzero(unusable).tolist()})

    def _text(self, column: pa.Array) -> tuple[Floats, list[int]]:
        try:
            return self._scaled(column.cast(pa.float64()).fill_null(math.nan).to_numpy(zero_copy_only=False)), []
        except pa.ArrowInvalid:
            pass
        for kind in (pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
            try:
                ms = _whole_ms(column.cast(kind)).to_numpy(zero_copy_only=False).astype(np.float64)
            except pa.ArrowInvalid:
                continue
            ms[column.is_null().to_numpy(zero_copy_only=False)] = math.nan
            return ms, []
        return _one_by_one(column, self._time)

    def _time(self, text: str) -> float:
        try:
            return float(self._scaled(np.array([_number(text)]))[0])
        except ValueError:
            moment = datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
            return float(round(moment.timestamp() * 1000.0))

    def _scaled(self, times: Floats) -> Floats:
        if self._to_ms is None:
            usable = times[np.isfinite(times)]
            if not len(usable):
                return np.full(len(times), math.nan)
            self._to_ms = next(to_ms for below, to_ms in UNITS_TO_MS if abs(float(usable[0])) < below)
        scaled: Floats = np.rint(np.clip(times, -1e300, 1e300) * self._to_ms)
        return scaled


def names(column: pa.Array) -> pa.DictionaryArray:
    """A column of series' names as codes and names."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return pc.dictionary_encode(column)


def rows_by_name(column: pa.Array, wanted: NDArray[np.bool_]) -> Iterator[tuple[Any, NDArray[np.int64]]]:
    """The names of a column of n cells, each with its rows in their order, of those that are `wanted`, (n,). Rows
    without a name are left out."""
    coded = names(column)
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    order = np.argsort(codes, kind="stable")
    order = order[(wanted & (codes >= 0))[order]]
    starts = np.flatnonzero(np.diff(codes[order], prepend=-2))
    for start, end in itertools.pairwise([*starts.tolist(), len(order)]):
        at = order[start:end]
        yield coded.dictionary[int(codes[at[0]])].as_py(), at


def readable(column: pa.Array) -> pa.Array:
    """Text with what is not UTF-8 replaced; anything else as it is."""
    if not _is_text(column.type):
        return column
    try:
        column.validate(full=True)
        return column
    except pa.ArrowInvalid:
        cells = column.cast(pa.binary()).to_pylist()
        return pa.array([None if cell is None else cell.decode("utf-8", "replace") for cell in cells], pa.string())


def _one_by_one(column: pa.Array, read: Callable[[str], float]) -> tuple[Floats, list[int]]:
    numbers_, bad = np.full(len(column), math.nan), []
    for row, text in enumerate(column.to_pylist()):
        if text is None or text.strip().lower() in MISSING_WORDS:
            continue
        try:
            numbers_[row] = read(text.strip())
        except (ValueError, OverflowError):
            bad.append(row)
    return numbers_, bad


def _number(text: str) -> float:
    if "_" in text:  # Python would read 1_000
        raise ValueError(text)
    return float(text)


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _whole_ms(column: pa.Array) -> pa.Array:
    """Timestamps and dates as whole ms since 1970, 0 where there is none."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    return column.cast(pa.timestamp("ms", tz=column.type.tz), safe=False).cast(pa.int64()).fill_null(0)


def is_number(kind: Any) -> bool:
    """True for a type whose cells are numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def mostly_numbers(column: pa.Array) -> bool:
    """True for text of which at least half the cells that say anything are numbers: some may be broken."""
    column = readable(column)
    found, bad = numbers(column)
    usable = int((~np.isnan(found)).sum())
    return usable > 0 and usable >= len(bad)

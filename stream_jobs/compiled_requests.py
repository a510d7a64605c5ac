"""Reads the `requests` object of a telemetry event from its JSON straight into arrays, compiled (numba).

Takes only what `schemas.telemetry.RequestColumns` accepts for sure, in the compact form that workers write: known
columns of one length, no white space, plain ASCII texts without escapes, numbers that a double or an int64 holds
exactly. For everything else it gives up, and the careful way decides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors.compiled import compiled, part
from stream_jobs.request_arrays import BOOLS, FLOATS, INTS, WORDS

DIGITS_MAX = 15
"""An integer of so many digits, divided by a power of ten up to 10^22, is the correctly rounded double (Clinger 1990):
both are exact, and division rounds once."""
WHOLE_DIGITS_MAX = 18
"""So many digits always fit an int64."""
_POWERS = np.array([10.0**power for power in range(DIGITS_MAX + 1)])
_NONE = -1
_QUOTE, _COMMA, _COLON, _OPEN, _CLOSE, _END = 34, 44, 58, 91, 93, 125
_MINUS, _DOT, _ZERO, _NINE, _BACKSLASH = 45, 46, 48, 57, 92

_PLAIN = np.array([32 <= byte <= 126 and byte not in (_QUOTE, _BACKSLASH) for byte in range(256)])
"""Whether a byte of a text stands for itself."""

Bytes = NDArray[np.uint8]


@part
def _whole(raw: Bytes, at: int) -> tuple[int, int, int]:
    """Value, digits and end of a whole number at `at`; no digits where there is none that is taken."""
    value, begin = 0, at
    digit = int(raw[at]) - _ZERO
    while 0 <= digit <= 9:
        value = value * 10 + digit
        at += 1
        digit = int(raw[at]) - _ZERO
    if at - begin > WHOLE_DIGITS_MAX:
        return 0, 0, at  # it may have overflown
    if at - begin > 1 and raw[begin] == _ZERO:
        return 0, 0, at
    return value, at - begin, at


@part
def _int(raw: Bytes, at: int) -> tuple[int, int]:
    """Value and end; end -1: given up."""
    negative = raw[at] == _MINUS
    value, digits, at = _whole(raw, at + 1 if negative else at)
    if digits == 0 or (negative and value == 0):
        return 0, _NONE
    return -value if negative else value, at


@part
def _float(raw: Bytes, at: int) -> tuple[float, int]:
    """Value and end; end -1: given up, as for exponents and negative numbers."""
    value, digits, at = _whole(raw, at)
    if digits == 0:
        return 0.0, _NONE
    if raw[at] != _DOT:
        return float(value), at if digits <= DIGITS_MAX else _NONE
    begin = at + 1
    at = begin
    digit = int(raw[at]) - _ZERO
    while 0 <= digit <= 9:
        value = value * 10 + digit
        at += 1
        digit = int(raw[at]) - _ZERO
    if at == begin or digits + at - begin > DIGITS_MAX:
        return 0.0, _NONE
    return float(value) / _POWERS[at - begin], at


@part
def _text_end(raw: Bytes, at: int) -> int:
    """Where the text that begins after a quote ends; -1: given up."""
    while at < len(raw) and raw[at] != _QUOTE:
        if not _PLAIN[raw[at]]:
            return _NONE
        at += 1
    return at if at < len(raw) else _NONE


@part
def _found(raw: Bytes, begin: int, end: int, names: Bytes, name_ends: NDArray[np.int64]) -> int:
    """Which of the names this is; -1: none."""
    for number in range(len(name_ends)):
        first = name_ends[number - 1] if number else 0
        if name_ends[number] - first != end - begin:
            continue
        same = True
        for i in range(end - begin):
            if raw[begin + i] != names[first + i]:
                same = False
                break
        if same:
            return number
    return _NONE


@part
def _literal(raw: Bytes, at: int) -> tuple[int, int]:
    """true or false as 1 or 0, and its end; end -1: neither."""
    if at + 4 <= len(raw) and raw[at] == 116 and raw[at + 1] == 114 and raw[at + 2] == 117 and raw[at + 3] == 101:
        return 1, at + 4
    if at + 5 <= len(raw) and raw[at] == 102 and raw[at + 1] == 97 and raw[at + 2] == 108:
        return 0, at + 5 if raw[at + 3] == 115 and raw[at + 4] == 101 else _NONE
    return 0, _NONE


@part
def _after(raw: Bytes, at: int, count: int, room: int) -> int:
    """Past the comma or bracket after a value; -1: given up, also where there is no room for another value."""
    if raw[at] == _CLOSE:
        return at + 1
    return at + 1 if raw[at] == _COMMA and count < room else _NONE


@part
def _int_column(raw: Bytes, at: int, least: float, most: float, into: NDArray[np.int64]) -> tuple[int, int]:
    """Number of values and end of a column whose first value is at `at`; end -1: given up. So of all columns."""
    count = 0
    while True:
        value, at = _int(raw, at)
        if at < 0 or value < least or value > most:
            return 0, _NONE
        into[count] = value
        count += 1
        at = _after(raw, at, count, len(into))
        if at < 0 or raw[at - 1] == _CLOSE:
            return count, at


@part
def _float_column(raw: Bytes, at: int, least: float, most: float, into: NDArray[np.float64]) -> tuple[int, int]:
    count = 0
    while True:
        value, at = _float(raw, at)
        if at < 0 or value < least or value > most:
            return 0, _NONE
        into[count] = value
        count += 1
        at = _after(raw, at, count, len(into))
        if at < 0 or raw[at - 1] == _CLOSE:
            return count, at


@part
def _bool_column(raw: Bytes, at: int, into: NDArray[np.int64]) -> tuple[int, int]:
    count = 0
    while True:
        into[count], at = _literal(raw, at)
        if at < 0:
            return 0, _NONE
        count += 1
        at = _after(raw, at, count, len(into))
        if at < 0 or raw[at - 1] == _CLOSE:
            return count, at


@part
def _word_column(
    raw: Bytes, at: int, words: Bytes, word_ends: NDArray[np.int64], into: NDArray[np.int64]
) -> tuple[int, int]:
    count = 0
    while True:
        end = _text_end(raw, at + 1) if raw[at] == _QUOTE else _NONE
        word = _found(raw, at + 1, end, words, word_ends) if end >= 0 else _NONE
        if word < 0:
            return 0, _NONE
        into[count] = word
        count += 1
        at = _after(raw, end + 1, count, len(into))
        if at < 0 or raw[at - 1] == _CLOSE:
            return count, at


@part
def _text_column(raw: Bytes, at: int, most: float, texts: Bytes, into: NDArray[np.int64]) -> tuple[int, int]:
    """The texts go to `texts` end to end, their ends to `into`."""
    count, written, last = 0, 0, len(raw) - 1
    while True:
        if raw[at] != _QUOTE:
            return 0, _NONE
        at, begin = at + 1, written
        while at < last and _PLAIN[raw[at]]:
            texts[written] = raw[at]
            written += 1
            at += 1
        if raw[at] != _QUOTE or written - begin > most:
            return 0, _NONE
        into[count] = written
        count += 1
        at = _after(raw, at + 1, count, len(into))
        if at < 0 or raw[at - 1] == _CLOSE:
            return count, at


@compiled
def read_requests(
    raw: Bytes,
    at: int,
    names: Bytes,
    name_ends: NDArray[np.int64],
    kinds: NDArray[np.int64],
    slots: NDArray[np.int64],
    limits: NDArray[np.float64],
    words: Bytes,
    word_ends: NDArray[np.int64],
    ints: NDArray[np.int64],
    floats: NDArray[np.float64],
    texts: Bytes,
    text_ends: NDArray[np.int64],
    text_begins: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> int:
    """Read the object whose first name's quote is at `at`. Returns the end of it, past its brace; -1: given up.

    Column `c` is called `names[name_ends[c-1]:name_ends[c]]` and goes to row `slots[c]` of the arrays of its kind;
    values are within `limits[c]`, texts at most so long. `counts[c]` becomes its length, -1 where it is not there.
    Texts of slot s lie in `texts` from `text_begins[s]`, each up to its end, counted from there.

    No byte past the end is looked at: the last one must be a brace, and going on stops at a brace within `raw`.
    """
    counts[:] = _NONE
    written = 0
    if raw[len(raw) - 1] != _END:
        return _NONE
    while raw[at] == _QUOTE:
        end = _text_end(raw, at + 1)
        column = _found(raw, at + 1, end, names, name_ends) if end >= 0 else _NONE
        if column < 0 or counts[column] >= 0 or raw[end + 1] != _COLON or raw[end + 2] != _OPEN:
            return _NONE
        kind, slot, least, most = kinds[column], slots[column], limits[column, 0], limits[column, 1]
        at, count = end + 3, 0
        if raw[at] == _CLOSE:
            at += 1
        elif kind == INTS:
            count, at = _int_column(raw, at, least, most, ints[slot])
        elif kind == FLOATS:
            count, at = _float_column(raw, at, least, most, floats[slot])
        elif kind == BOOLS:
            count, at = _bool_column(raw, at, ints[slot])
        elif kind == WORDS:
            count, at = _word_column(raw, at, words, word_ends, ints[slot])
        else:
            text_begins[slot] = written
            count, at = _text_column(raw, at, most, texts[written:], text_ends[slot])
            written += text_ends[slot, count - 1] if at >= 0 else 0
        if at < 0:
            return _NONE
        counts[column] = count
        at += 1
        if raw[at - 1] == _END:
            return at
        if raw[at - 1] != _COMMA:
            return _NONE
    return _NONE


@compiled
def hashes_of(texts: Bytes, ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A 64-bit hash (FNV-1a) of each text: different hashes, different texts."""
    found = np.empty(len(ends), dtype=np.uint64)
    at = 0
    for row in range(len(ends)):
        value = np.uint64(14_695_981_039_346_656_037)
        while at < ends[row]:
            value = (value ^ np.uint64(texts[at])) * np.uint64(1_099_511_628_211)
            at += 1
        found[row] = value
    return found

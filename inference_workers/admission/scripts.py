"""Which writing system a request's text is in: a change of language shows there first. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.telemetry import SCRIPTS

CHARACTERS_MAX = 1_000
"""Of a request's texts so many are looked at, the first."""
NONE, LATIN, OTHER = SCRIPTS.index(""), SCRIPTS.index("latin"), SCRIPTS.index("other")
_LETTER = re.compile(r"[A-Za-z]")
_BLOCK_BITS = 4
"""Writing systems begin and end at multiples of 16 code points, near enough."""
_BLOCKS: dict[str, tuple[tuple[int, int], ...]] = {
    "latin": (
        *((0x40, 0x7F), (0xC0, 0x2FF), (0x1D00, 0x1DBF), (0x1E00, 0x1EFF), (0x2C60, 0x2C7F), (0xA720, 0xA7FF)),
        *((0xAB30, 0xAB6F), (0xFB00, 0xFB0F), (0xFF20, 0xFF5F), (0x1DF00, 0x1DFFF)),
    ),
    "greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF)),
    "cyrillic": ((0x400, 0x52F), (0x1C80, 0x1C8F), (0x2DE0, 0x2DFF), (0xA640, 0xA69F)),
    "hebrew": ((0x590, 0x5FF), (0xFB20, 0xFB4F)),
    "arabic": ((0x600, 0x6FF), (0x750, 0x77F), (0x870, 0x8FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFF), (0x1EE00, 0x1EEFF)),
    "devanagari": ((0x900, 0x97F), (0xA8E0, 0xA8FF)),
    "bengali": ((0x980, 0x9FF),),
    "tamil": ((0xB80, 0xBFF),),
    "thai": ((0xE00, 0xE7F),),
    "hangul": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF)),
    "kana": ((0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF60, 0xFF9F), (0x1B000, 0x1B16F)),
    "han": ((0x2E80, 0x2FDF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
    # Digits, punctuation, combining marks, symbols, emoji, surrogates, private use: they are in texts of any.
    "": (
        *((0, 0x3F), (0x80, 0xBF), (0x300, 0x36F), (0x2000, 0x2BFF), (0x2E00, 0x2E7F), (0x3000, 0x303F)),
        *((0xD800, 0xF8FF), (0xFE00, 0xFE6F), (0xFF00, 0xFF1F), (0xFFA0, 0xFFFF), (0x1F000, 0x1FBFF)),
        (0xE0000, 0x10FFFF),
    ),
}


def _table() -> NDArray[np.uint8]:
    table = np.full(0x110000 >> _BLOCK_BITS, OTHER, dtype=np.uint8)
    for name, ranges in _BLOCKS.items():
        for first, last in ranges:
            table[first >> _BLOCK_BITS : (last >> _BLOCK_BITS) + 1] = SCRIPTS.index(name)
    return table


_SCRIPT_OF = _table()


def joined(texts: Sequence[str | tuple[str, str]]) -> str:
    """As much of a request's texts, pairs of them too, as its script is told by."""
    if len(texts) == 1 and isinstance(texts[0], str):
        return texts[0]  # nearly always
    found, left = [], CHARACTERS_MAX
    for text in texts:
        for part in (text,) if isinstance(text, str) else text:
            found.append(part[: max(left, 0)])
            left -= len(part)
        if left <= 0:
            break
    return " ".join(found)


def scripts_of(texts: Sequence[str]) -> list[int]:
    """For each text the writing system, a place in `SCRIPTS`, that most of its letters are of; the first of several
    with as many. 0 without letters.

    Nearly all texts of many services are ASCII, and told by their first letter; the others are counted together.
    """
    found = [script_of_ascii(text) if text.isascii() else -1 for text in texts]
    wide = [number for number, script in enumerate(found) if script < 0]
    if wide:
        for number, script in zip(wide, _counted([texts[number][:CHARACTERS_MAX] for number in wide]), strict=True):
            found[number] = script
    return found


def script_of_ascii(text: str) -> int:
    """The same of one text, which must be ASCII."""
    return LATIN if text[:1].isalpha() or _LETTER.search(text) else NONE


def _counted(texts: Sequence[str]) -> list[int]:
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    owner = np.repeat(np.arange(len(texts)) * len(SCRIPTS), [len(text) for text in texts])
    counts = np.bincount(owner + _SCRIPT_OF[codes >> _BLOCK_BITS], minlength=len(texts) * len(SCRIPTS))
    letters = counts.reshape(len(texts), len(SCRIPTS))
    letters[:, NONE] = 0
    best: list[int] = letters.argmax(axis=1).tolist()
    return best

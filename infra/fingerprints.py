"""One number for equal faults: the hash of a stack without what changes between two of the same. Pure."""

from __future__ import annotations

import hashlib
import re
import traceback

CAUSES_MAX = 5
"""How far a chain of `raise ... from` is followed."""
_DIGITS = re.compile(r"\d+")
_MADE_UP = re.compile(r"[A-Za-z0-9_#]{32,}")
"""A file's name that a compiler made up; no person writes one of 32 letters without a stop."""
_INLINED = frozenset({"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"})
"""Frames of their own up to Python 3.11 and part of their function's later."""


def fingerprint(error: BaseException) -> str:
    """16 hexadecimal digits, equal for two exceptions of one class that took one way through the code.

    Of each frame the function and the file's name count, each pair once: a recursion counts alike however deep it
    went. Line numbers, addresses, folders, messages and numbers in names do not count: they differ between releases,
    machines and requests. Causes count (`raise ... from`); an exception in whose handling this one came up does not.
    """
    parts: list[str] = []
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen and len(seen) < CAUSES_MAX:
        seen.add(id(one))
        frames = (_frame(name, code) for name, code in _frames(one) if name not in _INLINED)
        parts += [*dict.fromkeys(frames), type(one).__name__]
        one = one.__cause__
    return hashlib.sha256("|".join(parts).encode("utf-8", "replace")).hexdigest()[:16]


def _frames(error: BaseException) -> list[tuple[str, str]]:
    # Walked by hand: the traceback module would also read the source files, on disk, at a moment of trouble.
    return [(frame.f_code.co_name, frame.f_code.co_filename) for frame, _ in traceback.walk_tb(error.__traceback__)]


def _frame(function: str, file: str) -> str:
    stem = file.replace("\\", "/").rpartition("/")[2].removesuffix(".py")
    return f"{_DIGITS.sub('#', function)}@{_MADE_UP.sub('#', _DIGITS.sub('#', stem))}"

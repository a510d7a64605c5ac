"""Cuts ClickHouse SQL into tokens as the engine's lexer does (src/Parsers/Lexer.cpp): comments and quotes are whole.

What the engine takes for code must never be hidden here in a quote or a comment: the refusals of this front hang on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

SYNTAX_ERROR = 62

# Bytes above 127 are white space to the engine (it knows many kinds) or an error: either way they part words.
_TOKEN = re.compile(
    rb"""(?P<space>[\s\x00]+|--[^\n]*|//[^\n]*|\#[ !][^\n]*)
    |(?P<comment>/\*)
    |(?P<quoted>'(?:[^'\\]++|\\.|'')*+(?:'|\Z)|"(?:[^"\\]++|\\.|"")*+(?:"|\Z)|`(?:[^`\\]++|\\.|``)*+(?:`|\Z)
        |\xe2\x80\x98.*?(?:\xe2\x80\x99|\Z)|\xe2\x80\x9c.*?(?:\xe2\x80\x9d|\Z))
    |(?P<foreign>[\x80-\xff])
    |(?P<heredoc>\$[A-Za-z0-9_]*\$)
    |(?P<word>[A-Za-z_$][A-Za-z0-9_$]*)
    |(?P<number>[0-9][A-Za-z0-9_.]*)
    |(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT_MARK = re.compile(rb"/\*|\*/")
_DOLLAR_WORD = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9_$]*")
_HEREDOC_TAG = re.compile(rb"\$(?=([A-Za-z0-9_]*\$))")


class StatementError(Exception):
    """The text cannot be one statement, or one that runs here; `code` is ClickHouse's error number."""

    def __init__(self, message: str, code: int = SYNTAX_ERROR) -> None:
        super().__init__(message)
        self.code = code


class Token(NamedTuple):
    """One token. `kind` is word, number, quoted or sign; `depth` counts the brackets around it."""

    kind: str
    text: bytes
    start: int
    end: int
    depth: int

    def is_word(self, *words: bytes) -> bool:
        """True for one of `words` (small letters) outside all brackets."""
        return self.kind == "word" and self.depth == 0 and self.text.lower() in words

    def is_sign(self, sign: bytes) -> bool:
        return self.kind == "sign" and self.text == sign


class _Heredocs:
    """Ends of $tag$...$tag$. Each tag's last place is found once, so that many open tags take linear time."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._last: dict[bytes, int] | None = None

    def read(self, opened: re.Match[bytes]) -> tuple[str, int]:
        """The kind and the end of what begins with a tag; one not closed is a word with dollars, or a dollar."""
        tag, begins = opened.group(), opened.end()
        if self._last is None:
            self._last = {b"$" + found.group(1): found.start() for found in _HEREDOC_TAG.finditer(self._text)}
        if self._last[tag] >= begins:
            return "quoted", self._text.find(tag, begins) + len(tag)
        word = _DOLLAR_WORD.match(self._text, opened.start() + 1)
        return ("word", word.end()) if word is not None else ("sign", opened.start() + 1)


def _comment_end(text: bytes, start: int) -> int:
    level = 0
    for mark in _COMMENT_MARK.finditer(text, start):
        level += 1 if mark.group() == b"/*" else -1
        if level == 0:
            return mark.end()
    return len(text)


def read_tokens(text: bytes) -> Iterator[Token]:
    """The significant tokens of `text`, one by one: what follows the last one taken is not looked at."""
    depth = at = 0
    heredocs = _Heredocs(text)
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return
        kind, start, at = match.lastgroup or "", at, match.end()
        if kind == "comment":
            at = _comment_end(text, start)
        elif kind == "heredoc":
            kind, at = heredocs.read(match)
        if kind in ("space", "comment", "foreign"):
            continue
        found = text[start:at]
        if kind == "sign" and found in b")]}":
            depth = max(0, depth - 1)
        yield Token(kind, found, start, at, depth)
        if kind == "sign" and found in b"([{":
            depth += 1

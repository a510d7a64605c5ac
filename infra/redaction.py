"""Keeps secrets out of logs: known ones wherever they stand, and what looks like one."""

from __future__ import annotations

import re

HIDDEN = "(secret)"
SECRET_CHARACTERS_MIN = 6
"""A shorter one is not looked for: it would be found in words that have nothing to do with it."""
_NAMED = re.compile(
    r"(?i)\b((?:[a-z0-9_.\-]{0,64}(?:password|passwd|secret|credential|api[_\-]?key|access[_\-]?key|private[_\-]?key))"
    r"[\"']?\s*[=:]\s*[\"']?)(?!\(secret\))[^\s\"',;&)}\]]+"
)
_BEARER = re.compile(r"(?i)\b((?:bearer|basic)\s+)[a-z0-9+/._~\-]{8,}=*")
_IN_URL = re.compile(r"(://[^\s/:@]+:)[^\s/@]+(@)")
_known: set[str] = set()


def keep_secret(secret: str) -> None:
    """Hide this text from now on. Settings do so with every secret that they read."""
    if len(secret) >= SECRET_CHARACTERS_MIN:
        _known.add(secret)


def hide_secrets(text: str) -> str:
    """The text without secrets."""
    for secret in sorted(_known, key=len, reverse=True):  # a secret may hold another
        text = text.replace(secret, HIDDEN)
    text = _NAMED.sub(rf"\1{HIDDEN}", text)
    text = _BEARER.sub(rf"\1{HIDDEN}", text)
    return _IN_URL.sub(rf"\1{HIDDEN}\2", text)

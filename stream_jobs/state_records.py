"""Keys and values on the state topics: `<epoch>|<owner>|claim`, `...|page|<name>|<slot>`, `...|manifest`; with CRC."""

from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any

MAGIC = b"IWS1"
_HEADER = struct.Struct(">4sI")
_KEY = re.compile(rb"([0-9]{20})\|([0-9a-f-]{1,64})\|(claim|manifest|page\|(.{1,200})\|([01]))", re.DOTALL)


class BrokenState(ValueError):
    """A state record that is not whole: wrong frame, checksum or content."""


@dataclass(frozen=True, slots=True)
class StateKey:
    """Whose record it is and what: `kind` is claim, manifest or page; `name` and `slot` are the page's."""

    epoch: int
    owner: str
    kind: str
    name: str = ""
    slot: int = 0

    def encode(self) -> bytes:
        """The record key."""
        tail = f"page|{self.name}|{self.slot}" if self.kind == "page" else self.kind
        return f"{self.epoch:020d}|{self.owner}|{tail}".encode()

    @classmethod
    def parse(cls, key: bytes | None) -> StateKey | None:
        """The key of a record; None when it is none of ours."""
        match = _KEY.fullmatch(key or b"")
        if match is None:
            return None
        epoch, owner = int(match[1]), match[2].decode()
        if match[4] is None:
            return cls(epoch, owner, match[3].decode())
        return cls(epoch, owner, "page", match[4].decode(errors="replace"), int(match[5]))


def crc_of(body: bytes) -> int:
    """Checksum of a page's content."""
    return zlib.crc32(body)


def frame(body: bytes) -> bytes:
    """A record value: magic, CRC-32 of the content, content."""
    return _HEADER.pack(MAGIC, zlib.crc32(body)) + body


def unframe(raw: bytes) -> bytes:
    """The content of a record value. Raises BrokenState."""
    if len(raw) < _HEADER.size:
        raise BrokenState("shorter than its header")
    magic, crc = _HEADER.unpack_from(raw)
    body = raw[_HEADER.size :]
    if magic != MAGIC or zlib.crc32(body) != crc:
        raise BrokenState("wrong magic or checksum")
    return body


def frame_json(content: dict[str, Any]) -> bytes:
    """A record value of JSON."""
    return frame(json.dumps(content, separators=(",", ":"), sort_keys=True).encode())


def unframe_json(raw: bytes) -> dict[str, Any]:
    """The JSON of a record value. Raises BrokenState."""
    try:
        content = json.loads(unframe(raw))
    except ValueError as error:
        raise BrokenState(str(error)) from None
    if not isinstance(content, dict):
        raise BrokenState("not an object")
    return content

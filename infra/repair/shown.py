"""Dead letters on a terminal and as JSON: bytes made safe to look at, and cut. Pure."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

from infra.repair.letters import Letter
from infra.tail_cli import printable
from schemas.requeues import RecordRequeued

ROW_BYTES = 16


def moment(epoch_ms: int) -> str:
    """UTC to the second."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def as_json(letter: Letter, done: RecordRequeued | None, bytes_max: int = 0) -> dict[str, Any]:
    """For programs. Key, value and headers in base64, the value cut to `bytes_max`; 0: none of them."""
    one = letter.content
    found: dict[str, Any] = {
        "name": letter.name,
        "topic": one.topic,
        "partition": one.partition,
        "offset": one.offset,
        "stage": one.stage,
        "reason": one.reason.value,
        "detail": one.detail,
        "appended_ms": letter.appended_ms,
        "dead_letter": {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset},
        "value_bytes": None if one.value is None else len(one.value) + one.cut_bytes,
        "cut_bytes": one.cut_bytes,
        "requeue_id": letter.requeue_id,
        "requeued_offset": None if done is None else done.offset,
        "why_not": letter.why_not,
    }
    if bytes_max:
        found |= {
            "key": _base64(one.key),
            "value": _base64(one.value if one.value is None else one.value[:bytes_max]),
            "headers": [[name, _base64(raw)] for name, raw in one.headers],
        }
    return found


def as_text(letter: Letter, done: RecordRequeued | None, bytes_max: int, *, as_hex: bool) -> str:
    """Everything about one, for people. Nothing in it steers a terminal."""
    one = letter.content
    state = f"put back, offset {done.offset}" if done is not None else letter.why_not or "can be put back"
    facts = {
        "record": letter.name,
        "buried": f"{moment(letter.appended_ms)} by {printable(one.stage)}, "
        f"{letter.topic}/{letter.partition}/{letter.offset}",
        "reason": f"{one.reason.value}: {printable(one.detail)}",
        "requeue": state,
        "key": "none" if one.key is None else _line(one.key, bytes_max),
    }
    lines = [f"{name:<9}{text}" for name, text in facts.items()]
    lines += [
        f"header   {printable(name)}: {'null' if raw is None else _line(raw, bytes_max)}" for name, raw in one.headers
    ]
    if one.value is None:
        return "\n".join([*lines, "value    none (a tombstone)"])
    size = len(one.value) + one.cut_bytes
    lines.append(
        f"value    {size:,} bytes" + (f", {one.cut_bytes:,} of them cut when it was buried" if one.cut_bytes else "")
    )
    shown = one.value[:bytes_max]
    text = None if as_hex else text_of(shown, is_cut=len(shown) < len(one.value))
    lines += hex_rows(shown) if text is None else text.split("\n")
    if len(shown) < len(one.value):
        lines.append(f"... {len(one.value) - len(shown):,} more bytes: --bytes shows more")
    return "\n".join(lines)


def text_of(raw: bytes, *, is_cut: bool = False) -> str | None:
    """The bytes as text with every control character escaped; None when they are no UTF-8. `is_cut`: the last
    character may be half one."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        if not is_cut or error.start < len(raw) - 3:
            return None
        text = raw[: error.start].decode()
    return "".join(one if one.isprintable() or one == "\n" else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def hex_rows(raw: bytes) -> list[str]:
    """As hexdump -C does it.

    >>> hex_rows(b"red\\x1b[31m")
    ['00000000  72 65 64 1b 5b 33 31 6d                          |red.[31m|']
    """
    rows = []
    for at in range(0, len(raw), ROW_BYTES):
        part = raw[at : at + ROW_BYTES]
        letters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        rows.append(f"{at:08x}  {part.hex(' '):<47}  |{letters}|")
    return rows


def _line(raw: bytes, bytes_max: int) -> str:
    text = text_of(raw[:bytes_max], is_cut=len(raw) > bytes_max)
    shown = raw[:bytes_max].hex(" ") if text is None else text.replace("\n", "\\n")
    return shown + (f" ... {len(raw) - bytes_max:,} more bytes" if len(raw) > bytes_max else "")


def _base64(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode()

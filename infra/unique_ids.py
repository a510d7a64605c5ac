"""Ids that nobody else makes: UUID version 7 (RFC 9562), which sort by the time they were made. Pure."""

from __future__ import annotations

from uuid import UUID

RANDOM_BYTES = 10


def uuid7(now_ms: int, random_bytes: bytes) -> str:
    """A UUID version 7 of a wall-clock time in milliseconds and 10 random bytes, as text of 36 characters.

    >>> uuid7(1_700_000_000_000, bytes(10))
    '018bcfe5-6800-7000-8000-000000000000'
    """
    if len(random_bytes) != RANDOM_BYTES:
        raise ValueError(f"{len(random_bytes)} random bytes, {RANDOM_BYTES} expected")
    number = ((now_ms & (2**48 - 1)) << 80) | int.from_bytes(random_bytes)
    number = number & ~(0xF << 76) | (0x7 << 76)  # version
    number = number & ~(0x3 << 62) | (0x2 << 62)  # variant
    return str(UUID(int=number))

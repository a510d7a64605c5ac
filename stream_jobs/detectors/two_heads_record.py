"""The state of a series as bytes: version, configuration, length, the numbers as float64, and a checksum of it all."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from stream_jobs.detectors.base import Floats

_HEADER = struct.Struct("<4s8sI")
_MAGIC = b"TWO2"


def pack_row(row: Floats, digest: str) -> bytes:
    """`row` is (numbers,); `digest` 16 hexadecimal characters."""
    body = _HEADER.pack(_MAGIC, bytes.fromhex(digest), len(row)) + row.astype("<f8", copy=False).tobytes()
    return body + zlib.crc32(body).to_bytes(4, "little")


def unpack_row(record: bytes, width: int, digest: str) -> Floats:
    """The numbers again. Raises ValueError when the record is cut, altered, or of another version or configuration."""
    if len(record) != _HEADER.size + 8 * width + 4:
        raise ValueError(f"two_heads: {len(record)} bytes of state, {_HEADER.size + 8 * width + 4} expected")
    body = record[:-4]
    if zlib.crc32(body) != int.from_bytes(record[-4:], "little"):
        raise ValueError("two_heads: the state's checksum is wrong")
    magic, theirs, numbers = _HEADER.unpack_from(body)
    if magic != _MAGIC or theirs != bytes.fromhex(digest) or numbers != width:
        raise ValueError("two_heads: the state belongs to another version or configuration")
    return row_of(body[_HEADER.size :], width)


def row_of(numbers: bytes, width: int) -> Floats:
    """So many numbers, of bytes. Raises ValueError when there are not so many, or one is none."""
    if len(numbers) != 8 * width:
        raise ValueError(f"two_heads: {len(numbers)} bytes of numbers, {8 * width} expected")
    row = np.frombuffer(numbers, dtype="<f8").astype(np.float64)
    if np.isnan(row).any():
        raise ValueError("two_heads: numbers are missing")
    return row

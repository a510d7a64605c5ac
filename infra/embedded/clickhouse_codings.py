"""Content codings of the ClickHouse HTTP interface: gzip, deflate, lz4 frames and zstd, in bounded pieces.

lz4 and zstd come with clickhouse-connect where Python has none of its own; without them they are not offered.
"""

from __future__ import annotations

import importlib
import sys
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Protocol

PIECE_BYTES = 1 << 20


class CodingError(Exception):
    """The body is not what its Content-Encoding says, or the coding is not known."""


class Compressor(Protocol):
    """Called by one reply; nothing raises. The pieces of all calls joined are the coded body."""

    def compress(self, piece: bytes | memoryview) -> bytes: ...

    def flush(self) -> bytes: ...


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_lz4 = _load("lz4.frame")
_zstd = _load("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


class _Lz4Frame:
    def __init__(self) -> None:
        self._frame: Any = _lz4.LZ4FrameCompressor()
        self._head: bytes = self._frame.begin()

    def compress(self, piece: bytes | memoryview) -> bytes:
        head, self._head = self._head, b""
        return head + bytes(self._frame.compress(piece))

    def flush(self) -> bytes:
        head, self._head = self._head, b""
        return head + bytes(self._frame.flush())


def _compressors() -> dict[str, Callable[[], Any]]:
    known: dict[str, Callable[[], Any]] = {}
    if _lz4 is not None:
        known["lz4"] = _Lz4Frame
    if _zstd is not None:
        known["zstd"] = lambda: _zstd.ZstdCompressor(level=1)
    # Level 1: between two processes of one machine, time counts and size does not.
    known["gzip"] = lambda: zlib.compressobj(1, zlib.DEFLATED, 31)
    known["deflate"] = lambda: zlib.compressobj(1, zlib.DEFLATED, 15)
    return known


_COMPRESSORS = _compressors()


def choose_coding(accept_encoding: str) -> str | None:
    """The first coding of an Accept-Encoding header that is known here, or None for a plain body."""
    for item in accept_encoding.split(","):
        name, _, quality = item.strip().lower().partition(";")
        if name.strip() in _COMPRESSORS and quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            return name.strip()
    return None


def compressor(coding: str) -> Compressor:
    """A new compressor for a name that `choose_coding` returned."""
    made: Compressor = _COMPRESSORS[coding]()
    return made


def _decompressor(coding: str) -> Any:
    if coding in ("gzip", "x-gzip"):
        return zlib.decompressobj(31)
    if coding == "deflate":
        return zlib.decompressobj(15)
    if coding == "lz4" and _lz4 is not None:
        return _lz4.LZ4FrameDecompressor()
    if coding == "zstd" and _zstd is not None:
        return _zstd.ZstdDecompressor()
    offered = ", ".join(sorted(_COMPRESSORS))
    raise CodingError(f"Unknown Content-Encoding: {coding}. Ways out: send the body plain, or as one of {offered}.")


def decode(pieces: Iterable[bytes], coding: str) -> Iterator[bytes]:
    """The plain bytes of a coded body, in pieces of at most 1 MiB; several frames one after another are one body.

    Raises CodingError for an unknown coding, broken data, or an end in the middle of a frame.
    """
    if coding in ("", "identity"):
        yield from pieces
        return
    unit = _decompressor(coding)
    fed = False
    try:
        for piece in pieces:
            rest = piece
            while rest:
                if unit.eof:
                    unit = _decompressor(coding)
                fed = True
                rest = yield from _decode_piece(unit, rest)
    except CodingError:
        raise
    except Exception as error:  # zlib.error, RuntimeError and ZstdError: each library its own
        raise CodingError(f"The body is not {coding}: {error}") from None
    if fed and not unit.eof:
        raise CodingError(f"The body ends in the middle of its {coding} data")


def _decode_piece(unit: Any, piece: bytes) -> Generator[bytes, None, bytes]:
    """Yields what `piece` decodes to; returns the bytes after the end of the frame."""
    if hasattr(unit, "unconsumed_tail"):
        while True:
            plain = unit.decompress(piece, PIECE_BYTES)
            if plain:
                yield plain
            piece = unit.unconsumed_tail
            if unit.eof or not (piece or len(plain) == PIECE_BYTES):
                return bytes(unit.unused_data)
    while True:
        plain = unit.decompress(piece, PIECE_BYTES)
        if plain:
            yield plain
        piece = b""
        if unit.eof:
            return bytes(unit.unused_data or b"")
        if unit.needs_input:
            return b""

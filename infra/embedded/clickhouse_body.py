"""Receives the body of one HTTP request, plain or chunked, coded or not, into memory or a file of bounded size."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import IO

from infra.embedded.clickhouse_codings import PIECE_BYTES, decode

LINE_BYTES_MAX = 8192


class BodyTooLarge(Exception):
    """The body, plain, is above the limit."""


class BodyBroken(Exception):
    """The client went away, or its chunks are not chunks: the connection is of no more use."""


class Spool:
    """Where bodies wait until they are complete: in memory up to `memory_bytes`, then in files without a name.

    A statement starts only when its body is complete, so that a client that dies half-way changes nothing and a slow
    one holds no engine connection.
    """

    def __init__(self, folder: Path, body_bytes_max: int, memory_bytes: int = 4 << 20) -> None:
        """Empties and makes `folder`."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        self._folder = folder
        self.body_bytes_max = body_bytes_max
        self._memory_bytes = memory_bytes

    def open(self) -> IO[bytes]:
        """An empty spool file; closing it deletes it."""
        return tempfile.SpooledTemporaryFile(self._memory_bytes, dir=str(self._folder))

    def receive(self, pieces: Iterator[bytes], coding: str) -> IO[bytes]:
        """The decoded body, rewound. Raises BodyTooLarge, BodyBroken, CodingError."""
        spool = self.open()
        size = 0
        try:
            for piece in decode(pieces, coding):
                size += len(piece)
                if size > self.body_bytes_max:
                    raise BodyTooLarge(
                        f"The body is larger than {self.body_bytes_max} bytes. Ways out: send smaller batches; or "
                        "start the front with a larger --body-mib-max."
                    )
                spool.write(piece)
            spool.seek(0)
        except BaseException:
            spool.close()
            raise
        return spool


def sized_pieces(source: BufferedIOBase, size: int) -> Iterator[bytes]:
    """`size` bytes of `source`. Raises BodyBroken if it ends before."""
    while size > 0:
        piece = source.read(min(size, PIECE_BYTES))
        if not piece:
            raise BodyBroken("the connection ended inside the body")
        size -= len(piece)
        yield piece


def chunked_pieces(source: BufferedIOBase) -> Iterator[bytes]:
    """The data of a chunked body (RFC 9112, section 7.1), trailers dropped. Raises BodyBroken."""
    while True:
        line = source.readline(LINE_BYTES_MAX)
        try:
            size = int(line.split(b";", 1)[0].strip(), 16)
        except ValueError:
            size = -1
        if size < 0 or not line.endswith(b"\n"):
            raise BodyBroken("a chunk has no size")
        if size == 0:
            break
        yield from sized_pieces(source, size)
        if source.readline(3) not in (b"\r\n", b"\n"):
            raise BodyBroken("a chunk is longer than its size")
    while (line := source.readline(LINE_BYTES_MAX)) not in (b"\r\n", b"\n"):
        if not line:
            raise BodyBroken("the connection ended inside the trailers")


def pieces_from(spool: IO[bytes], head: bytes) -> Iterator[bytes]:
    """`head`, then what is left of `spool`, in pieces of at most 1 MiB."""
    if head:
        yield head
    while piece := spool.read(PIECE_BYTES):
        yield piece

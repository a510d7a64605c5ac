"""Whether the disk of a data folder has room, and the words for when it has none."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from infra.disk_room import nearest_existing
from infra.embedded.errors import DiskFull

MIB = 1 << 20
SPARE_BYTES = 16 * MIB  # a program that a full disk ended leaves a little room behind: less than this was no room
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_no_room(error: OSError) -> bool:
    """Whether a write failed because the disk is full, or this user's part of it."""
    return error.errno in _NO_ROOM


def free_bytes(folder: Path) -> int:
    """What this user may still write on the disk of a folder that there is or will be. Raises OSError."""
    return shutil.disk_usage(nearest_existing(folder)).free


def full_disk_note(folder: Path, spare_bytes: int = SPARE_BYTES) -> str:
    """A sentence when the folder's disk has less room than that, else nothing: the cause of what just went wrong."""
    with contextlib.suppress(OSError):
        free = free_bytes(folder)
        if free < spare_bytes:
            return _sentence(folder, free)
    return ""


def require_room(folder: Path, needed_bytes: int) -> None:
    """Raises DiskFull when the folder's disk has less room than that."""
    free = free_bytes(folder)
    if free < needed_bytes:
        raise DiskFull(f"{_sentence(folder, free)} It needs {needed_bytes // MIB} MiB to start.")


@contextlib.contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Inside, a write that finds no room raises DiskFull, which says so, in the place of OSError."""
    try:
        yield
    except OSError as error:
        if not is_no_room(error):
            raise
        raise DiskFull(_sentence(folder, free_bytes(folder))) from None


def _sentence(folder: Path, free: int) -> str:
    return (
        f"The disk of {folder} is full ({free / MIB:.1f} MiB are left). "
        "Ways out: make room on it, and the next start goes on; or choose a data folder on another disk."
    )

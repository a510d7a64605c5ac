"""What may go wrong with the embedded parts: one sentence of why, then the ways out.

EmbeddedError               70  (the exit code of a process that ends for it)
├── FolderInUse             75  another process runs on this data folder
├── FetchFailed             75  a file could not be fetched
├── NotReady                75  it ran, or was starting, and ended
├── DiskFull                75  the disk of the data folder has no room
├── WrongFile               78  a fetched file is not the one that was recorded
├── PortTaken               78  the port that was asked for is in use
└── UnsuitableMachine       78  the folder or the machine cannot be used
"""

from __future__ import annotations

from typing import ClassVar


class EmbeddedError(Exception):
    """An embedded part cannot do what was asked; the text says why and the ways out."""

    exit_code: ClassVar[int] = 70


class FolderInUse(EmbeddedError):
    """Another process runs this component on this data folder."""

    exit_code = 75


class FetchFailed(EmbeddedError):
    """A file could not be fetched; a later try may succeed."""

    exit_code = 75


class NotReady(EmbeddedError):
    """The component ended, or did not become ready in time; the text has the last lines of its log."""

    exit_code = 75


class DiskFull(EmbeddedError):
    """The disk of the data folder has no room; a start after some was made succeeds."""

    exit_code = 75


class WrongFile(EmbeddedError):
    """A file's SHA-256 is not the recorded one; it is not used."""

    exit_code = 78


class PortTaken(EmbeddedError):
    """The port that was asked for is in use."""

    exit_code = 78


class UnsuitableMachine(EmbeddedError):
    """The folder cannot be written, or the machine lacks something that no retry brings."""

    exit_code = 78

"""One data folder, one owner for each component in it, and what a component remembers from start to start.

Owns the lock (held by the process and by the children it is handed to, freed by the system however they end),
the small state file, and the choice of ports. Each component has a folder of its own below the data folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from infra.embedded.disk import full_disk_named
from infra.embedded.errors import FolderInUse, PortTaken, UnsuitableMachine

# Below the ranges that Linux (32768-60999) and macOS (49152-65535) take the ports of outgoing connections
# from: a client that keeps asking for a port of that range while nobody listens can connect to itself.
FIRST_PORT, LAST_PORT = 20_000, 31_999
TAKE_OVER_S = 5.0  # a killed owner's children need a moment to end; the lock is theirs until then


class DataFolder:
    """A folder in which components keep their data. Made when a component is claimed."""

    def __init__(self, path: Path) -> None:
        """`path` may be relative or start with `~`."""
        self.path = Path(os.path.abspath(path.expanduser()))

    def claim(self, component: str, take_over_s: float = TAKE_OVER_S) -> Claim:
        """Become the one owner of a component (`kafka`) until the claim is released or the process ends.

        Raises FolderInUse, with the owner's process id, when a living process owns it. Where only the children
        of a killed owner are left, waits up to `take_over_s` seconds for them to end. Raises UnsuitableMachine
        when the folder cannot be written or locked, DiskFull when there is no room for what is written.
        """
        if re.fullmatch(r"[a-z][a-z0-9_]*", component) is None:
            raise ValueError(f"component {component!r}: small letters, digits and _ only")
        folder = self.path / component
        try:
            with full_disk_named(folder):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UnsuitableMachine(
                f"data folder {folder}: cannot be written ({error.strerror}). "
                "Ways out: choose another data folder; or make this one writable for this user."
            ) from None
        try:
            _lock(lock, component, folder, take_over_s)
            with full_disk_named(folder):
                # Over the last owner's, which takes no room, and only then cut.
                os.truncate(lock, os.pwrite(lock, f"{os.getpid()}\n".encode(), 0))
            return Claim(component, folder, lock)
        except BaseException:
            os.close(lock)
            raise


class Claim:
    """One component's folder, owned. A context manager; release() may be called more than once."""

    def __init__(self, component: str, folder: Path, lock: int) -> None:
        """`lock`: the open, locked file. Made by DataFolder.claim."""
        self.component = component
        self.folder = folder
        self._lock: int | None = lock

    def fileno(self) -> int:
        """The lock's file descriptor: a child that inherits it keeps the claim until it ends, too."""
        if self._lock is None:
            raise ValueError(f"the claim on {self.folder} was released")
        return self._lock

    def release(self) -> None:
        """Give the claim back (children that inherited it still hold theirs)."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def recall(self, key: str, default: Any = None) -> Any:
        """What remember() was last given for this key in any start, or the default."""
        return self._state().get(key, default)

    def remember(self, key: str, value: Any) -> None:
        """Keep a JSON value for later starts. The file is replaced whole: a kill leaves the old or the new one."""
        state = self._state() | {key: value}
        part = self.folder / "state.json.part"
        with full_disk_named(self.folder), part.open("w") as file:
            json.dump(state, file, indent=2, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.folder / "state.json")

    def choose_port(self, name: str, wanted: int = 0) -> int:
        """A free TCP port of 127.0.0.1 for one use (`broker`), remembered for the next start.

        `wanted` 0: the port of the last start if it is free, so that clients reconnect by themselves, else
        another. Otherwise that port, or PortTaken.
        """
        ports: dict[str, int] = self.recall("ports", {})
        others = {port for other, port in ports.items() if other != name}
        if wanted:
            if not is_free(wanted):
                raise PortTaken(
                    f"port {wanted} on 127.0.0.1, asked for by {self.component}, is in use or not allowed. "
                    "Ways out: stop what listens there; or choose another port; or choose 0 for any free one."
                )
            port = wanted
        else:
            candidates = self._candidates(name, ports.get(name))
            port = next((port for port in candidates if port not in others and is_free(port)), 0)
            if not port:
                raise UnsuitableMachine(
                    f"no free port on 127.0.0.1 from {FIRST_PORT} to {LAST_PORT}. Ways out: name a port."
                )
        if ports.get(name) != port:
            self.remember("ports", ports | {name: port})
        return port

    def _candidates(self, name: str, last: int | None) -> Iterator[int]:
        if last is not None:
            yield last
        # Spread by folder, so that stacks started at the same moment do not probe the same ports.
        seed = hashlib.sha256(f"{self.folder}:{name}".encode()).digest()
        count = LAST_PORT - FIRST_PORT + 1
        start = int.from_bytes(seed[:8]) % count
        for step in range(count):
            yield FIRST_PORT + (start + step) % count

    def _state(self) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
            state = json.loads((self.folder / "state.json").read_text())
            if isinstance(state, dict):
                return state
        return {}  # first start, or cut by a power loss: everything in it can be chosen again


def is_free(port: int) -> bool:
    """Whether nothing listens on this TCP port of 127.0.0.1 and this user may."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except (OSError, OverflowError):
            return False
        return True


def _lock(lock: int, component: str, folder: Path, take_over_s: float) -> None:
    deadline = time.monotonic() + take_over_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            owner = _owner(lock)
            if owner is None or _lives(owner) or time.monotonic() > deadline:
                raise FolderInUse(_in_use(component, folder, owner)) from None
            time.sleep(0.05)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise UnsuitableMachine(
                    f"data folder {folder}: its file system has no locks ({error.strerror}). "
                    "Ways out: choose a data folder on a local disk."
                ) from None
            raise


def _owner(lock: int) -> int | None:
    text = os.pread(lock, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A killed process whose parent has not fetched its exit status is a zombie: it holds nothing any more.
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def _in_use(component: str, folder: Path, owner: int | None) -> str:
    if owner is None:
        holder = "another process (just starting)"
    elif _lives(owner):
        holder = f"process {owner}"
    else:
        holder = f"a child that process {owner}, which has ended, left behind"
    return (
        f"{component} is already running on {folder}: {holder} holds its lock. "
        "Ways out: use the one that runs; or stop it first; or choose another data folder."
    )

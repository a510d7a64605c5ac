"""A program started as a child that ends with this process, keeps a lock until it has ended, and can be stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path

from infra.embedded.parent import launch_command

OUTPUT = "output.log"


class Child:
    """A process in a group of its own, that ends with this one and keeps the claim's lock until then."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str], lock: int) -> None:
        """`folder`: its working directory; its output goes to `output.log` there, written anew.

        `lock`: a locked file's descriptor, which it inherits.
        """
        self._started, self._ended = threading.Event(), threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._error: OSError | None = None
        # The kernel takes the thread that starts a child for its parent: one that stays as long as the child.
        self._thread = threading.Thread(
            target=self._run, args=(command, folder, environment, lock), name="child", daemon=True
        )

    def start(self) -> None:
        """Start it. An exception that comes while this waits leaves a child that end() still ends."""
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            raise self._error

    def _run(self, command: list[str], folder: Path, environment: dict[str, str], lock: int) -> None:
        try:
            with (folder / OUTPUT).open("wb") as output:
                self._process = subprocess.Popen(
                    launch_command(command),
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C in a terminal reaches this process alone, which stops it
                    pass_fds=(lock,),
                )
            self._started.set()
            self._process.wait()
        except OSError as error:
            self._error = error
        finally:
            self._started.set()
            self._ended.set()

    @property
    def pid(self) -> int:
        """Process id; -1 when it could not be started."""
        self._started.wait()
        return -1 if self._process is None else self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status once it has ended (negative: the signal that ended it), else None."""
        return self._process.returncode if self._process is not None and self._ended.is_set() else None

    def wait(self, timeout_s: float | None) -> int | None:
        """Wait for its end, at most `timeout_s` seconds; its status or None."""
        self._ended.wait(timeout_s)
        return self.status

    def end(self, deadline_s: float) -> None:
        """SIGTERM to its group, SIGKILL `deadline_s` seconds later; returns once it has ended. Repeatable."""
        if self._thread.ident is None:  # never started
            return
        self._started.wait()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._ended.is_set() or self._process is None:
                return
            with contextlib.suppress(ProcessLookupError, PermissionError):  # ended, its status not yet fetched
                os.killpg(self._process.pid, number)
            self._ended.wait(deadline_s)


def last_lines(path: Path, lines: int) -> list[str]:
    """The newest lines of a text file, or none if it cannot be read."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 16_384))
        return file.read().decode(errors="replace").splitlines()[-lines:]
    return []

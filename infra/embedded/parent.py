"""A child that never outlives its parent, however the parent ends.

Run as a file, with the standard library alone, it is the launcher of a program: `parent.py PID PROGRAM ARG...`
ends the program when process PID, its parent, ends. `watch_parent` does the same for a Python process of ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2)
LOOK_EVERY_S = 0.5


def launch_command(program: list[str]) -> list[str]:
    """The command that starts a program as a child of this process which ends with it.

    On Linux the kernel ends the child when the *thread* that started it ends: start it from one that stays.
    """
    launcher = str(Path(__file__).resolve())
    return [sys.executable, "-I", "-S", launcher, str(os.getpid()), *program]


def watch_parent(parent: int, when_gone: Callable[[], None]) -> threading.Thread:
    """Call `when_gone` from a thread once this process is no longer a child of process `parent`."""
    thread = threading.Thread(target=_watch, args=(parent, when_gone), name="parent-watch", daemon=True)
    thread.start()
    return thread


def _watch(parent: int, when_gone: Callable[[], None]) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    when_gone()


def _main(parent: int, program: list[str]) -> int:
    if sys.platform == "linux":
        _die_with_parent()
        if os.getppid() != parent:  # it ended before the line above
            return 1
        os.execv(program[0], program)
    return _supervise(parent, program)


def _die_with_parent() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl: {os.strerror(number)}")


def _supervise(parent: int, program: list[str]) -> int:
    """Where the kernel cannot do it: stay, look for the parent, and end the process group without it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # Sent to the whole group: the program ends, then this does. A handler, unlike "ignore", is not inherited.
        signal.signal(number, lambda number, frame: None)
    child = subprocess.Popen(program, close_fds=False)
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = child.wait(LOOK_EVERY_S)
            return code if code >= 0 else 128 - code
        if os.getppid() != parent:
            os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(_main(int(sys.argv[1]), sys.argv[2:]))

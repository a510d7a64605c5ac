"""Disks of their own for the embedded stores, which a run can make full: tmpfs mounts in a namespace of the run's.

The whole run enters it, so a store that is killed and started again finds its data, and nothing outside sees the mounts
or has to undo them: the kernel does when the last process of the run ends. Linux only.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOM_BYTES = 4 << 30
"""Of a disk that is not full. A limit, not a claim: memory is taken for what is written."""
OUTSIDE = "CHAOS_OUTSIDE_NAMESPACE"
"""Names, in the environment of a run that has entered its namespace, the one that it came from."""
NEAR_BYTES, STEP_BYTES, STEP_SECONDS = 512 << 20, 16 << 20, 0.05
"""The last half gigabyte goes in steps, some 300 MB/s, as to a program that writes: see `fill`."""
TRIES = 50


def ways_in(user_id: int) -> list[list[str]]:
    """The commands that give a program a mount namespace, the most likely to work first."""
    as_mapped_root = ["unshare", "--mount", "--map-root-user"]
    return [["unshare", "--mount"], as_mapped_root] if user_id == 0 else [as_mapped_root]


def is_inside(here: str | None, outside: str | None) -> bool:
    """Whether this process is in a namespace of the run's. Told by the namespaces themselves: a variable alone, left
    over in a shell, must not lead to mounts on the machine."""
    return bool(here and outside and here != outside)


def enter() -> str | None:
    """Go on as the same program in a mount namespace of its own; or return why that is not possible here.

    Returns None when this process is in it: it replaces the process, so call it before anything is begun.
    """
    here = namespace()
    if is_inside(here, os.environ.get(OUTSIDE)):
        return None
    if here is None or shutil.which("unshare") is None or shutil.which("mount") is None:
        return "it needs mount namespaces: Linux, and the programs unshare and mount"
    refused = ""
    for way in ways_in(os.getuid()):
        refused = refusal(way)
        if not refused:
            os.environ[OUTSIDE] = here
            sys.stderr.flush()
            os.execvp(way[0], [*way, sys.executable, *sys.orig_argv[1:]])
    return f"this machine does not let us mount: {refused}"


def namespace() -> str | None:
    """The mount namespace of this process; None where there are none."""
    try:
        return os.readlink("/proc/self/ns/mnt")
    except OSError:
        return None


def refusal(way: list[str]) -> str:
    """What stands against a mount in a namespace that was entered that way; empty when it works."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*way, "mount", "-t", "tmpfs", "-o", "size=1m", "chaos", folder],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return "" if done.returncode == 0 else said


class Disk:
    """A folder that is a disk of its own, with room until `fill` and again from `free` on. Needs `enter` before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._mount(f"size={ROOM_BYTES},mode=0700")

    def fill(self) -> None:
        """Take all room that is left, at the pace of a program that writes. The engine of ClickHouse cannot have it at
        once: see `infra/embedded/clickhouse_room.py`."""
        found = os.statvfs(self.folder)
        room = min(found.f_bfree * found.f_frsize, NEAR_BYTES)
        while room > 0:
            self._leave(room)
            room -= STEP_BYTES
            time.sleep(STEP_SECONDS)
        self._leave(0)

    def _leave(self, room: int) -> None:
        """Make the disk so large that there is that much room beside what lies on it."""
        for attempt in range(TRIES):
            found = os.statvfs(self.folder)
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            try:
                self._mount(f"remount,size={max(used + room, found.f_frsize)}")
                return
            except subprocess.CalledProcessError:  # more was written in between than it would hold
                if attempt == TRIES - 1:
                    raise

    def free(self) -> None:
        """Give it its room back."""
        self._mount(f"remount,size={ROOM_BYTES}")

    def leave(self) -> None:
        """Put what it holds into the folder below, where it can be looked at after the run."""
        kept = self.folder.with_name(f"{self.folder.name}.kept")
        subprocess.run(["cp", "-a", "--sparse=always", self.folder, kept], check=True)
        subprocess.run(["umount", "--lazy", self.folder], check=True)
        self.folder.rmdir()
        kept.rename(self.folder)

    def _mount(self, options: str) -> None:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "chaos", self.folder], check=True, capture_output=True, timeout=20
        )

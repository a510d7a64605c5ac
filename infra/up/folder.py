"""The data folder of one stack: whose it is, who runs on it, where it says so.

Owns the marker (only a marked folder is ever deleted), the lock of the running `up`, and `stack.json`, which the
other commands read through `infra.connect`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from infra.connect import STACK_FILE, live_process
from infra.embedded.data_folder import Claim, DataFolder
from infra.embedded.errors import FolderInUse, UnsuitableMachine

MARKER = "inferwatch-data-folder"
LOGS = "logs"
COMPONENT = "up"


class FolderError(Exception):
    """The data folder cannot be used or deleted; the text says why and the ways out."""


class FolderBusy(FolderError):
    """Another `up` runs on the folder."""


@dataclass(frozen=True, slots=True)
class RunningStack:
    """What `stack.json` says. `created_at`: when the process was started, seconds since 1970."""

    kafka_bootstrap_servers: str
    clickhouse_url: str
    pid: int
    started_at: str
    created_at: float

    @property
    def process(self) -> psutil.Process | None:
        """The process that wrote it, or None when it has ended, also where its number was given to another."""
        return live_process(self.pid, self.created_at)


class StackFolder:
    """One data folder."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path.expanduser()))

    @property
    def logs(self) -> Path:
        """Where each process's log is."""
        return self.path / LOGS

    def claim(self) -> Claim:
        """Become the one `up` of this folder, making and marking it. Raises FolderBusy, FolderError."""
        try:
            new = not self.path.exists() or not any(self.path.iterdir())
            claim = DataFolder(self.path).claim(COMPONENT, take_over_s=0.0)
        except FolderInUse as error:
            raise FolderBusy(str(error)) from None
        except (OSError, UnsuitableMachine) as error:
            raise FolderError(f"INFERWATCH_DATA_DIR={self.path}: {error}") from None
        if new:
            (self.path / MARKER).write_text("Made by `inferwatch up`; `inferwatch reset` deletes the folder.\n")
            (self.path / ".gitignore").write_text("*\n")
        return claim

    def write_stack(self, kafka_bootstrap_servers: str, clickhouse_url: str) -> None:
        """Say what runs here and who looks after it: replaced in one step."""
        me = psutil.Process()
        content = {
            "kafka_bootstrap_servers": kafka_bootstrap_servers,
            "clickhouse_url": clickhouse_url,
            "pid": me.pid,
            "started_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "created_at": me.create_time(),
        }
        half = self.path / (STACK_FILE + ".half")
        half.write_text(json.dumps(content) + "\n")
        half.replace(self.path / STACK_FILE)

    def remove_stack(self) -> None:
        """Nothing runs here any more."""
        (self.path / STACK_FILE).unlink(missing_ok=True)

    def read_stack(self) -> RunningStack | None:
        """What runs here, or None when nothing was written or the file is not ours."""
        try:
            found = json.loads((self.path / STACK_FILE).read_bytes())
            return RunningStack(
                kafka_bootstrap_servers=str(found["kafka_bootstrap_servers"]),
                clickhouse_url=str(found["clickhouse_url"]),
                pid=int(found["pid"]),
                started_at=str(found["started_at"]),
                created_at=float(found["created_at"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remove_stale_stack(self) -> None:
        """Remove what an `up` that was killed left in `stack.json`. Does nothing while one runs."""
        if (self.path / STACK_FILE).exists():
            with contextlib.suppress(FolderError), self.claim():
                self.remove_stack()

    def check_deletable(self) -> None:
        """Raises FolderError when the folder is not ours, FolderBusy while something runs on it."""
        if not (self.path / MARKER).is_file():
            raise FolderError(
                f"{self.path} has no file {MARKER}: it was not made by `inferwatch up` and is not deleted. "
                "Ways out: check INFERWATCH_DATA_DIR; or delete it yourself."
            )
        if self.path in (Path.home(), *Path.cwd().parents, Path.cwd()):
            raise FolderError(f"{self.path} is the home folder or holds the current one: it is not deleted.")
        self.claim().release()

    def delete(self) -> None:
        """Delete the folder with all data. Raises as `check_deletable`."""
        self.check_deletable()
        with self.claim():
            for entry in self.path.iterdir():
                if entry.name in (COMPONENT, MARKER):
                    continue  # last: a kill in between leaves a folder that is still known as ours
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        shutil.rmtree(self.path)

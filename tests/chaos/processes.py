"""Processes of a chaos run: started, killed, stopped and continued, and started again when they ended."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from infra.embedded.parent import launch_command

ROOT = Path(__file__).resolve().parents[2]
AGAIN_SECONDS = 1.0
"""From a process' end to its next start."""


class Managed:
    """One process under a name. Used by one thread only: the kernel ends a child with the thread that made it."""

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str], folder: Path) -> None:
        self.name, self.arguments, self.environment = name, arguments, environment
        self.log_file = folder / f"{name}.log"
        self.facts: dict | None = None
        """What its ready line said, for those that print one."""
        self.wanted = False
        self.starts = 0
        self.unasked: list[int] = []
        """Exit codes that nobody asked for."""
        self._again_at = 0.0
        self._asked = False
        self._stopped = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def stands_still(self) -> bool:
        """Whether a SIGSTOP holds it, its own or another's."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except (FileNotFoundError, ProcessLookupError):  # it ended just now
            return False

    def start(self) -> None:
        self.wanted, self.facts, self._asked, self._stopped = True, None, False, False
        self.starts += 1
        with self.log_file.open("ab") as log:
            log.write(f"--- start {self.starts} of {self.name}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                launch_command([sys.executable, "-m", *self.arguments]),
                cwd=ROOT,
                env=self.environment | {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if b'"ready"' in line and process is self._process:
                    self.facts = json.loads(line)

    def signal(self, number: int, pid: int | None = None) -> None:
        """A signal to it, or to a process `pid` of its own."""
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._asked = True
        self._stopped = number == signal.SIGSTOP or (self._stopped and number != signal.SIGCONT)
        os.kill(self.pid if pid is None else pid, number)

    def look(self) -> None:
        """Notice that it ended; start it again when it is time."""
        if not self.wanted or self.alive:
            return
        if self._process is not None:
            code = self._process.wait()
            if not self._asked:
                self.unasked.append(code)
            self._process, self._again_at = None, time.monotonic() + AGAIN_SECONDS
        if time.monotonic() >= self._again_at:
            self.start()

    def stop(self, seconds: float = 120.0) -> int | None:
        """In order, and by force when it takes longer. Its exit code."""
        self.wanted = False
        if self._process is None:
            return None
        if self.alive:
            if self._stopped:
                self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._process.wait(10)

    def kill(self) -> None:
        """SIGKILL. It stays ended until `look` is asked, when it is wanted."""
        if self.alive:
            self.signal(signal.SIGKILL)
            self._process.wait(10)

    @property
    def works(self) -> bool:
        """Whether a worker or a job has joined its group since it was started."""
        return self.alive and "assigned" in self.log().rpartition("--- start ")[2]

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

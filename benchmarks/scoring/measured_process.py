"""A process of the benchmark's own on the job's core: started, watched, stopped in order."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, Self

from benchmarks.scoring.pinning import Cores, on
from benchmarks.scoring.storing import Watched
from benchmarks.worker_process import LOG_CHARACTERS

STOP_SECONDS_MAX = 30.0


class MeasuredProcess:
    """A context manager: started on entry, on exit SIGTERM, and SIGKILL for one that does not end."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], cores: Cores | None, stdin: bytes = b""
    ) -> None:
        self._command, self._environment, self._cores, self._stdin = command, environment, cores, stdin

    def __enter__(self) -> Self:
        self._log: IO[bytes] = tempfile.TemporaryFile()
        self._folder = tempfile.TemporaryDirectory(prefix="inferwatch-bench-job-")
        with tempfile.TemporaryFile() as given, on(None if self._cores is None else self._cores.job):
            given.write(self._stdin)
            given.seek(0)
            self._process = subprocess.Popen(
                self._command,
                env=dict(self._environment),
                cwd=self._folder.name,  # peers leave their states where they are started
                stdin=given,
                stdout=self._log,
                stderr=self._log,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._log.close()
            self._folder.cleanup()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def watched(self) -> Watched:
        """For `storing.follow`."""
        return Watched(self._process.pid, lambda: self._process.poll() is None, self._last_words)

    def _last_words(self) -> str:
        # Read from a place, without going there: the process writes where the file's position is.
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), LOG_CHARACTERS, max(0, size - LOG_CHARACTERS)).decode("utf-8", "replace")

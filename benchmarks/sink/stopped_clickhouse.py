"""A real ClickHouse engine of the benchmark's own that is killed and comes back with its data, on the same port."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.embedded_clickhouse import FRONT, STOP_SECONDS_MAX
from benchmarks.worker_process import failed
from infra.migrate import apply_tables
from infra.settings import ClickHouseSettings


@dataclass
class StoppedClickHouse:
    """Between `kill` and `start` it is away, as after a power cut."""

    folder: Path
    url: str = ""
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it on the data that are there. Raises ClickException when it does not come up."""
        with Path(self.folder, "log").open("ab") as log:
            process = subprocess.Popen(
                [*FRONT, "--data", str(self.folder), "--die-with-parent", str(os.getpid())],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        line = process.stdout.readline() if process.stdout is not None else b""
        if not line:
            raise failed(f"ClickHouse did not start: {Path(self.folder, 'log').read_text()[-1_000:]}")
        url = str(json.loads(line)["url"])
        if self.url and url != self.url:
            raise failed(f"ClickHouse came back at {url}, not at {self.url}")
        self._process, self.url = process, url

    def kill(self) -> None:
        """SIGKILL: no goodbye, nothing flushed."""
        self._end(graceful=False)

    def stop(self) -> None:
        """In order."""
        self._end(graceful=True)

    def _end(self, *, graceful: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if graceful:
            process.terminate()
        else:
            process.kill()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def stopped_clickhouse() -> Iterator[tuple[StoppedClickHouse, ClickHouseSettings]]:
    """Started with our tables on entry, ended and its data deleted on exit."""
    with tempfile.TemporaryDirectory(prefix="inferwatch-bench-") as folder:
        server = StoppedClickHouse(Path(folder))
        server.start()
        try:
            settings = ClickHouseSettings.model_construct(url=server.url)
            apply_tables(settings, say=lambda text: None)
            yield server, settings
        finally:
            server.stop()

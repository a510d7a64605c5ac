"""A real ClickHouse engine of the benchmark's own in a temporary folder, with our tables in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.worker_process import failed
from infra.migrate import apply_tables
from infra.settings import ClickHouseSettings

FRONT = (sys.executable, "-P", "-m", "infra.embedded.clickhouse_front")
STOP_SECONDS_MAX = 30.0


@contextmanager
def own_clickhouse() -> Iterator[ClickHouseSettings]:
    """Started on entry, stopped and its data deleted on exit."""
    with tempfile.TemporaryDirectory(prefix="inferwatch-bench-") as folder, Path(folder, "log").open("wb") as log:
        process = subprocess.Popen(
            [*FRONT, "--data", folder, "--die-with-parent", str(os.getpid())],
            stdout=subprocess.PIPE,
            stderr=log,
        )
        try:
            line = process.stdout.readline() if process.stdout is not None else b""
            if not line:
                raise failed(f"ClickHouse did not start: {Path(folder, 'log').read_text()[-1_000:]}")
            settings = ClickHouseSettings.model_construct(url=json.loads(line)["url"])
            apply_tables(settings, say=lambda text: None)
            yield settings
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()

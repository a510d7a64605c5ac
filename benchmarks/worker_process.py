"""Real `inferwatch worker` processes of the benchmark's own: start, watch their use of the machine, stop in order."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Any, Self

import click
import psutil

from benchmarks.thread_times import ThreadTimes, thread_times
from infra.exit_codes import EXIT_TRY_AGAIN
from infra.settings import KafkaSettings

COMMAND = (sys.executable, "-P", "-m", "infra.cli", "worker")
STOP_SECONDS_MAX = 30.0
LOG_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the worker and the bare engine are told: a package or folder, its number type and threads."""

    model: str
    name: str
    dtype: str = "auto"
    threads: int = 1

    def environment(self) -> dict[str, str]:
        """The worker's settings that say so; others may come from the caller's own environment."""
        return {
            "INFERWATCH_WORKER_MODEL": self.model,
            "INFERWATCH_WORKER_MODEL_NAME": self.name,
            "INFERWATCH_WORKER_DTYPE": self.dtype,
            "INFERWATCH_WORKER_TORCH_THREADS": str(self.threads),
        }


@dataclass(frozen=True, slots=True)
class Usage:
    """What a moment showed, of all workers together; threads of the first one alone."""

    monotonic: float
    cpu_seconds: float
    rss_bytes: int
    threads: ThreadTimes


@dataclass
class WorkerProcesses:
    """So many workers of one group. A context manager: started on entry, stopped in order on exit."""

    kafka: KafkaSettings
    served: ServedModel
    count: int = 1
    command: Sequence[str] = COMMAND
    extra: Mapping[str, str] = field(default_factory=dict)
    stdout: int = subprocess.DEVNULL
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False)
    _watched: list[psutil.Process] = field(default_factory=list, init=False)
    _log: IO[bytes] = field(default_factory=tempfile.TemporaryFile, init=False)

    def __enter__(self) -> Self:
        environment = worker_environment(os.environ, self.kafka, self.served) | dict(self.extra)
        for _ in range(self.count):
            process = subprocess.Popen(
                self.command, env=environment, stdin=subprocess.DEVNULL, stdout=self.stdout, stderr=self._log
            )
            self.processes.append(process)
            self._watched.append(psutil.Process(process.pid))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except click.ClickException:
            if kind is None:  # else the error that is under way says more
                raise
        finally:
            self._log.close()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not end. Raises ClickException for one that did not end in order."""
        for process in self.processes:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS_MAX
        for process in self.processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        codes = [process.returncode for process in self.processes]
        self.processes = []
        if any(codes):
            raise failed(f"a worker ended with {codes}: {self.last_words()}")

    def check(self) -> None:
        """Raise ClickException when one has ended by itself."""
        ended = [process.returncode for process in self.processes if process.poll() is not None]
        if ended:
            raise failed(f"a worker ended by itself with {ended}: {self.last_words()}")

    def usage(self) -> Usage:
        """Processor seconds so far and resident memory now."""
        self.check()
        cpu, rss = 0.0, 0
        for process in self._watched:
            times = process.cpu_times()
            cpu += times.user + times.system
            rss += process.memory_info().rss
        return Usage(time.monotonic(), cpu, rss, thread_times(self._watched[0].pid))

    def last_words(self) -> str:
        """The end of what they logged."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - LOG_CHARACTERS))
        return self._log.read().decode("utf-8", "replace")


def worker_environment(given: Mapping[str, str], kafka: KafkaSettings, served: ServedModel) -> dict[str, str]:
    """The caller's environment with this Kafka and this model; its other worker settings stay."""
    kept = {name: value for name, value in given.items() if not name.startswith("INFERWATCH_KAFKA_")}
    return kept | {
        "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers or "",
        "INFERWATCH_KAFKA_SESSION_TIMEOUT_MS": str(kafka.session_timeout_ms),
        "INFERWATCH_WORKER_GROUP": "inferwatch-bench",
        **served.environment(),
    }


def failed(text: str) -> click.ClickException:
    """An error of a measurement, in words; exit code 75."""
    error = click.ClickException(text)
    error.exit_code = EXIT_TRY_AGAIN
    return error


@dataclass
class ForeignLoad:
    """How much of the machine others used meanwhile: what makes a figure noisy."""

    own: Sequence[int]
    """Ids of processes whose own use, with their children's, is not foreign."""
    _before: tuple[float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        self._before = self._now()

    def share(self) -> float:
        """Share of all cores used by others since the start, 0 to 1."""
        busy, own, wall = (now - before for now, before in zip(self._now(), self._before, strict=True))
        return min(1.0, max(0.0, (busy - own) / max(1e-9, wall * (os.cpu_count() or 1))))

    def _now(self) -> tuple[float, float, float]:
        times: Any = psutil.cpu_times()
        busy = sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
        own = 0.0
        for pid in self.own:
            try:
                parent = psutil.Process(pid)
                family = [parent, *parent.children(recursive=True)]
                own += sum(one.cpu_times().user + one.cpu_times().system for one in family)
            except psutil.Error:
                continue
        return busy, own, time.monotonic()

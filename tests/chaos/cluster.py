"""A whole pipeline of real processes in a folder of its own: Kafka, ClickHouse, workers, jobs, a proxy before each
server. All on 127.0.0.1. What it is asked of the servers here is provisioning; the checker has its own way to them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.chaos.disks import Disk
from tests.chaos.processes import ROOT, Managed
from tests.chaos.proxy import Proxy
from tests.tiny_models import tiny_bert

PARTITIONS = 4
SESSION_MS = 6_000
SETTINGS = {
    "INFERWATCH_KAFKA_SESSION_TIMEOUT_MS": str(SESSION_MS),
    "INFERWATCH_TOPIC_PARTITIONS": str(PARTITIONS),
    "INFERWATCH_JOBS_WINDOW_SECONDS": "1",
    "INFERWATCH_JOBS_BARRIER_INTERVAL_SECONDS": "1",
    "INFERWATCH_JOBS_ROW_FLUSH_SECONDS": "0.3",
    "INFERWATCH_JOBS_TICK_SECONDS": "0.3",
    # A window that closes before all is in has its data as a revision, which the detectors do not learn: how long
    # that takes is a matter of time and not of the log, and a replay could not be equal to the bit.
    "INFERWATCH_JOBS_ALLOWED_LATENESS_SECONDS": "900",
    "INFERWATCH_JOBS_LEARNING_WINDOWS": "3",
    "INFERWATCH_JOBS_REQUESTS_MIN": "5",
    "INFERWATCH_WORKER_DRILLS": "true",
}
"""Short windows and barriers, quick take-over."""
READY_SECONDS = 180.0
WORKERS_GROUP, JOBS_GROUP = "inference-workers", "stream-jobs-score"
WATCHED = {"INFERWATCH_HEALTH_STALLED_SECONDS": "6", "INFERWATCH_HEALTH_HUNG_SECONDS": "8"}
"""A worker under a watchdog says soon that its model hangs."""
WATCHDOG = (
    *("watchdog", "--group", WORKERS_GROUP, "--look-seconds", "1", "--looks", "30"),
    *("--lag-seconds", "600", "--stop-seconds", "3", "--"),
)


class Cluster:
    """Started with `start`, ended with `stop`; `look` keeps alive what is wanted. For one thread."""

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 2,
        jobs: int = 2,
        ledgers: int = 0,
        patches: str = "",
        with_disks: bool = False,
        **more: str,
    ) -> None:
        """`patches`: names of `patches.APPLY` for every process; `with_disks`: each store has a disk of its own, see
        `disks`; `more` is environment of all."""
        self.folder = folder
        self.ever: list[Managed] = []
        """Every process there was."""
        folder.mkdir(parents=True)
        stores = ("kafka", "clickhouse") if with_disks else ()
        self.disks = {name: Disk(folder / "data" / name) for name in stores}
        self.kafka_port, self.clickhouse_port = free_port(), free_port()
        self.kafka_proxy, self.clickhouse_proxy = Proxy(self.kafka_port), Proxy(self.clickhouse_port)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("INFERWATCH_")}
        self.environment = (
            clean
            | SETTINGS
            | {
                "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.kafka_proxy.port}",
                "INFERWATCH_CLICKHOUSE_URL": f"http://127.0.0.1:{self.clickhouse_proxy.port}",
                "INFERWATCH_DATA_DIR": str(folder / "data"),
                "INFERWATCH_WORKER_MODEL": str(tiny_bert(folder / "tiny")),
                "CHAOS_MARKS": str(folder),
                "CHAOS_PATCHES": patches,
                **more,
            }
        )
        data = ["--data", str(folder / "data")]
        self.kafka = self._managed(
            "kafka", ["tests.chaos.child", "broker", str(self.kafka_proxy.port), *data, "--port", str(self.kafka_port)]
        )
        self.clickhouse = self._managed(
            "clickhouse",
            ["infra.embedded.clickhouse_front", *data, "--port", str(self.clickhouse_port), "--memory-mib", "1024"],
        )
        self.workers = [self.new_worker(number) for number in range(1, workers + 1)]
        self.jobs = [self.new_job(number) for number in range(1, jobs + 1)]
        ledger = ["tests.chaos.child", "inferwatch", "jobs", "ledger"]
        self.ledgers = [self._managed(f"ledger-{number}", ledger) for number in range(1, ledgers + 1)]

    def _managed(self, name: str, arguments: list[str], **more: str) -> Managed:
        self.ever.append(Managed(name, arguments, self.environment | more, self.folder))
        return self.ever[-1]

    def new_worker(self, number: int, **more: str) -> Managed:
        return self._managed(f"worker-{number}", ["tests.chaos.child", "inferwatch", "worker"], **more)

    def watched_worker(self, number: int, **more: str) -> Managed:
        """A worker under `inferwatch watchdog`, which starts it again when it hangs."""
        command = [sys.executable, "-m", "tests.chaos.child", "inferwatch", "worker"]
        arguments = ["tests.chaos.child", "inferwatch", *WATCHDOG, *command]
        return self._managed(f"watched-{number}", arguments, **WATCHED, **more)

    def new_job(self, number: int | str, **more: str) -> Managed:
        return self._managed(f"job-{number}", ["tests.chaos.child", "inferwatch", "jobs", "score"], **more)

    @property
    def everything(self) -> list[Managed]:
        return [self.kafka, self.clickhouse, *self.workers, *self.jobs, *self.ledgers]

    def start(self) -> None:
        """Servers, topics and tables, workers and jobs; returns when the servers are ready and the others begun."""
        self.kafka.start()
        self.clickhouse.start()
        for worker in self.workers:
            worker.start()
        self.until(lambda: self.kafka.facts and self.clickhouse.facts, "Kafka and ClickHouse are ready", READY_SECONDS)
        self.inferwatch("topics", "apply")
        self.inferwatch("tables", "apply")
        for one in [*self.jobs, *self.ledgers]:
            one.start()

    def inferwatch(self, *arguments: str, **more: str) -> None:
        """Run a command of ours; it must succeed."""
        self._command(arguments, more, 60.0, lambda done: done.returncode == 0)

    def ask(self, *arguments: str) -> dict:
        """What a command of ours prints as JSON, however it ends. Raises RuntimeError when it prints none."""
        return json.loads(
            self._command(arguments, {"CHAOS_PATCHES": ""}, 120.0, lambda done: done.stdout.lstrip().startswith("{"))
        )

    def _command(self, arguments: Sequence[str], more: dict[str, str], seconds: float, is_good: Callable) -> str:
        """What a command of ours prints, tried up to three times. Raises RuntimeError when none of them is good."""
        said = ""
        for _ in range(3):
            try:
                done = subprocess.run(
                    [sys.executable, "-m", "tests.chaos.child", "inferwatch", *arguments],
                    cwd=ROOT,
                    env=self.environment | more,
                    capture_output=True,
                    text=True,
                    timeout=seconds,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                said = f"{arguments} did not end within {seconds:.0f} s"
                continue
            if is_good(done):
                return done.stdout
            said = f"{arguments} ended with {done.returncode}: {done.stderr[-2_000:]}"
        raise RuntimeError(said)

    def arm(self, name: str) -> None:
        """Have the next process that comes by die, or stand still, at the instruction of that name."""
        (self.folder / f"{name}.mark").unlink(missing_ok=True)
        (self.folder / f"{name}.arm").touch()

    def disarm(self, name: str) -> None:
        """Nobody came by: nor is anybody to, any more."""
        (self.folder / f"{name}.arm").unlink(missing_ok=True)

    def is_marked(self, name: str) -> bool:
        """Whether one did."""
        return (self.folder / f"{name}.mark").exists()

    def continue_stopped(self) -> Callable[[], bool]:
        """Continue jobs that stopped themselves. Returns a question: whether these processes, if any, have
        ended."""
        stopped = [(job, job.starts) for job in self.jobs if job.alive and job.stands_still]
        for job, _ in stopped:
            job.signal(signal.SIGCONT)
        return lambda: bool(stopped) and all(job.starts > start or not job.alive for job, start in stopped)

    def look(self) -> None:
        for one in self.everything:
            one.look()

    def wait(self, seconds: float) -> None:
        """Let time pass, keeping alive what is wanted."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.look()
            time.sleep(0.05)

    def until(self, condition, what: str, seconds: float, every: float = 0.05):
        """Wait for a condition, asked every so often, keeping alive what is wanted. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while True:
            if value := condition():
                return value
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:.0f} s: {what}; {self.describe()}")
            self.wait(every)

    def describe(self) -> str:
        return ", ".join(f"{one.name} {'alive' if one.alive else 'ended'}" for one in self.everything)

    def sql(self, text: str, database: str = "default") -> str:
        """Ask ClickHouse itself, not through the proxy."""
        query = urllib.parse.urlencode({"database": database})
        url = f"http://127.0.0.1:{self.clickhouse_port}/?{query}"
        with urllib.request.urlopen(urllib.request.Request(url, text.encode()), timeout=30) as answer:
            return answer.read().decode()

    def stop(self) -> None:
        processes = [*self.workers, *self.jobs, *self.ledgers]
        for one in [*processes, self.clickhouse, self.kafka]:
            one.wanted = False
        for one in processes:
            one.kill()
        self.clickhouse.stop(15.0)
        self.kafka.stop(15.0)
        self.kafka_proxy.close()
        self.clickhouse_proxy.close()
        for disk in self.disks.values():
            disk.leave()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]

"""A whole pipeline for the end-to-end tests: `inferwatch up` as a person starts it, in a folder of its own."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

SHORT = {
    "INFERWATCH_JOBS_WINDOW_SECONDS": "1",
    "INFERWATCH_JOBS_BARRIER_INTERVAL_SECONDS": "2",
    "INFERWATCH_JOBS_ROW_FLUSH_SECONDS": "0.3",
    "INFERWATCH_JOBS_TICK_SECONDS": "0.3",
    "INFERWATCH_KAFKA_SESSION_TIMEOUT_MS": "6000",
}
"""Settings that make a test short: windows of 1 s, quick barriers, quick take-over."""


class Pipeline:
    """A running `inferwatch up`."""

    def __init__(self, folder: Path, *arguments: str, **settings: str) -> None:
        self.folder = folder
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("INFERWATCH_")
        } | SHORT
        self.environment |= settings | {"INFERWATCH_DATA_DIR": str(folder / "stack")}
        # The samples, on every machine: what is replayed must not depend on which data lie beside the checkout.
        self.environment |= {"INFERWATCH_DATA": str(folder / "none")}
        self._log = (folder / "up.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self.environment,
        )

    def log(self) -> str:
        """What `up` said."""
        return (self.folder / "up.log").read_text(errors="replace")

    def simulated(self) -> tuple[int, float, int]:
        """What the last simulator said as it ended: requests sent, sent a second, delivered."""
        said = (self.folder / "stack" / "logs" / "simulator.log").read_text(errors="replace")
        facts = re.findall(r"simulate: (\d+) sent in [\d.]+ s \(([\d.]+)/s\), (\d+) delivered", said)
        sent, rate, delivered = facts[-1]
        return int(sent), float(rate), int(delivered)

    def until(self, condition, what: str, seconds: float = 60.0):
        """Wait for a condition; ends with what `up` said when it does not come."""
        deadline = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            if self.process.poll() is not None:
                pytest.fail(f"`up` ended with {self.process.returncode} before: {what}\n{self.log()[-4000:]}")
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds} s: {what}\n{self.log()[-4000:]}")
            time.sleep(0.1)

    def run(self, *arguments: str, stdin: str | None = None, seconds: float = 60.0) -> subprocess.CompletedProcess:
        """Run another `inferwatch` command against this pipeline."""
        return subprocess.run(
            [sys.executable, "-m", "infra.cli", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            env=self.environment,
            check=False,
        )

    def json(self, *arguments: str, stdin: str | None = None, seconds: float = 60.0):
        """Run a command that prints JSON."""
        done = self.run(*arguments, stdin=stdin, seconds=seconds)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return json.loads(done.stdout)

    def stack(self) -> dict:
        """The addresses that `up` wrote down."""
        return json.loads((self.folder / "stack" / "stack.json").read_text())

    def query(self, sql: str):
        """Rows of a question, as dictionaries; None while ClickHouse is away or refuses it. Asks the server itself: a
        command a question would take most of the machine."""
        address = self.stack()["clickhouse_url"] + "/?output_format_json_quote_64bit_integers=0"
        asked = urllib.request.Request(address, f"{sql} FORMAT JSONEachRow".encode())
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:
                return [json.loads(line) for line in answer.read().splitlines()]
        except (OSError, http.client.HTTPException):
            return None

    def change(self, sql: str) -> None:
        """A statement that the server itself must take."""
        urllib.request.urlopen(urllib.request.Request(self.stack()["clickhouse_url"], sql.encode()), timeout=20).close()

    def children(self, words: str) -> list[psutil.Process]:
        """Living processes below `up` whose command line has these words, oldest first."""
        try:
            below = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        found = []
        for process in below:
            try:
                if words in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return sorted(found, key=lambda process: process.create_time())

    def stop(self, seconds: float = 60.0) -> None:
        """Stop in order, as Ctrl-C does, and see that nothing is left behind."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=seconds)
        self._log.close()
        deadline = time.monotonic() + 30.0  # what was killed is listed until the system has taken it away
        while alive := [one for one in below if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]:
            assert time.monotonic() < deadline, f"left behind: {alive}"
            time.sleep(0.1)

    def kill(self) -> None:
        """End it in any case (for a test that failed)."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.communicate(timeout=10)
        self._log.close()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory):
    """Start a pipeline; it is ended after the module at the latest."""
    started: list[Pipeline] = []

    def begin(*arguments: str, folder: Path | None = None, **settings: str) -> Pipeline:
        pipeline = Pipeline(folder or tmp_path_factory.mktemp("pipeline"), *arguments, **settings)
        started.append(pipeline)
        return pipeline

    yield begin
    for pipeline in started:
        pipeline.kill()

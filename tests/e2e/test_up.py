"""`inferwatch up` as a user runs it: everything real, in a folder of its own, nothing left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests.parts import takes_long

SECONDS = 150.0


class Run:
    """One `inferwatch up` in the background."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        hidden = ("INFERWATCH_KAFKA_BOOTSTRAP_SERVERS", "INFERWATCH_CLICKHOUSE_URL")
        self.environment = {name: value for name, value in os.environ.items() if name not in hidden}
        self.environment["INFERWATCH_DATA_DIR"] = str(folder)
        self.folder = folder
        self.process = subprocess.Popen(
            self._command("up", *arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @staticmethod
    def _command(*arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "infra.cli", *arguments]

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(self.process.stderr)

    def has_said(self, words: str) -> bool:
        assert self.process.poll() is None, "".join(self.said)
        return any(words in line for line in list(self.said))

    def child(self, words: str) -> psutil.Process | None:
        for process in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):  # it may be ending
                if words in " ".join(process.cmdline()):
                    return process
        return None

    def other(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,  # `down` waits for as long as what it stops may take
            check=False,
        )

    def end(self) -> str:
        try:
            self.process.wait(SECONDS)
        finally:
            self.process.kill()
            self._reader.join(10.0)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        output = self.process.stdout.read()
        self.process.stdout.close()
        self.process.stderr.close()
        return output


def left_behind(folder: Path) -> list[list[str]]:
    return [
        p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or [])
    ]


@pytest.mark.timeout(SECONDS + 60)
def test_the_books_balance_though_the_worker_and_the_jobs_are_killed(tmp_path, until):
    takes_long("a run of its own with kills; the live pipeline's processes are killed in any case")
    run = Run(tmp_path / "data", "--for", "12s", "--rate", "60", "--seed", "3", "--json")
    try:
        until(lambda: run.has_said("first prediction"), "the first prediction", 90.0)
        for words in ("worker", "score"):
            child = until(lambda words=words: run.child(words), f"a process {words}", 30.0)
            child.send_signal(signal.SIGKILL)
    finally:
        output = run.end()
    assert run.process.returncode == 0, output + "".join(run.said)
    summary = json.loads(output)
    assert summary["books"]["balanced"] is True
    assert summary["books"]["sent"] > 100
    assert summary["books"]["answered"] == summary["books"]["table_rows"] == summary["books"]["telemetry_rows"]
    restarts = (summary["restarts"]["worker"], summary["restarts"]["jobs"])
    assert restarts == (1, 1), "".join(run.said)
    assert summary["first_prediction_seconds"] > 0
    assert not (run.folder / "stack.json").exists()
    until(lambda: not left_behind(run.folder), "nothing is left behind")


@pytest.mark.timeout(SECONDS + 60)
def test_one_run_a_folder_stopped_from_elsewhere_and_killed_without_a_trace(tmp_path, until):
    run = Run(tmp_path / "data", "--rate", "50")
    try:
        until(lambda: run.has_said("topics are there"), "topics", 90.0)
        second = run.other("up")
        assert second.returncode == 75, second.stderr
        assert str(run.process.pid) in second.stderr
        assert run.other("reset", "--yes").returncode == 75
        stopped = run.other("down")
        assert stopped.returncode == 0, stopped.stderr
        assert "stopped" in stopped.stdout
    finally:
        run.process.terminate()
        run.end()
    assert run.process.returncode == 0, "".join(run.said)
    until(lambda: not left_behind(run.folder), "nothing is left behind")

    killed = Run(tmp_path / "data", "--no-traffic")
    try:
        until(lambda: killed.has_said("topics are there"), "topics again", 90.0)
    finally:
        killed.process.kill()
        killed.end()
    until(lambda: not left_behind(killed.folder), "nothing outlives it")
    assert "nothing is running" in killed.other("down").stdout
    assert killed.other("reset", "--yes").returncode == 0
    assert not killed.folder.exists()

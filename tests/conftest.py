"""Fixtures shared by all tests: one real broker and one real engine for the whole run, started when first asked for.

What a test needs of the machine and may not find is asked for through `tests.parts`.
"""

import json
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from infra.settings import ClickHouseSettings, KafkaSettings
from tests.parts import kafka_jars, real_data

settings.register_profile(
    "inferwatch", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow], max_examples=60
)
settings.load_profile("inferwatch")
START_SECONDS = 90.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What a test logged is sent from process to process as UTF-8, and some tests log what is not."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "replace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data."""
    return real_data()


class Part:
    """An embedded part as a child process that says on stdout when it is ready."""

    def __init__(self, module: str, folder: Path, *arguments: str) -> None:
        with (folder / f"{module}.log").open("ab") as log_file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "--data", str(folder), *arguments],
                stdout=subprocess.PIPE,
                stderr=log_file,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            log = (folder / f"{module}.log").read_text()[-2_000:]
            raise RuntimeError(f"{module} ended with {self.process.wait(10)}: {log}")
        self.ready = json.loads(line)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory):
    """Settings for a real Apache Kafka of this test run."""
    kafka_jars()
    part = Part("infra.embedded.broker", tmp_path_factory.mktemp("kafka"))
    yield KafkaSettings(bootstrap_servers=part.ready["bootstrap_servers"], session_timeout_ms=6_000)
    part.stop()


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory):
    """Settings for a real ClickHouse engine of this test run."""
    part = Part("infra.embedded.clickhouse_front", tmp_path_factory.mktemp("clickhouse"))
    yield ClickHouseSettings(url=part.ready["url"])
    part.stop()


@pytest.fixture
def unique() -> str:
    """A name that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def until():
    """Wait for a condition with a deadline: `until(lambda: x > 3, "x above 3")` returns its value."""

    def wait(condition, what: str, seconds: float = 30.0):
        deadline = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds} s: {what}")
            time.sleep(0.02)

    return wait

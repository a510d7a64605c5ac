"""A run of `up` without processes: when it ends by itself, and with what summary."""

import time
from dataclasses import replace

import pytest

from infra.clock import SystemClock
from infra.up.child_log import ChildLog
from infra.up.folder import StackFolder
from infra.up.plan import Addresses, Groups
from infra.up.run import RunLimit, Site, Up
from tests.views import NOTHING, SNAPSHOT


class Servers:
    """Servers that are there at once, and a pipeline that answers after a while."""

    def __init__(self, answers_after_seconds: float) -> None:
        self._answers_at = time.monotonic() + answers_after_seconds

    def prepare(self):
        pass

    def apply_tables(self):
        pass

    def apply_topics(self):
        return self

    @property
    def first_prediction_seconds(self):
        return 7.125 if time.monotonic() > self._answers_at else None

    def account(self):
        return NOTHING

    def snapshot(self):
        return replace(SNAPSHOT, account=NOTHING, first_prediction_seconds=self.first_prediction_seconds)

    def is_at_rest(self, since):
        return True

    def stop(self):
        pass


@pytest.fixture
def run(tmp_path):
    def make(limit: RunLimit, servers: Servers):
        addresses = Addresses("127.0.0.1:1", "http://127.0.0.1:2", None, None)
        site = Site(addresses, StackFolder(tmp_path), Groups(), (("Kafka", "127.0.0.1:1 (yours)"),))
        log = ChildLog(tmp_path / "logs" / "up.log")
        return Up([], limit, site, servers, log, SystemClock(), time.monotonic()).run()

    return make


def test_it_ends_at_the_first_prediction_where_that_is_all_that_is_asked(run, capsys, tmp_path):
    began = time.monotonic()
    summary = run(RunLimit(60.0, 0.0, until_answered=True), Servers(answers_after_seconds=0.5))
    assert 0.5 < time.monotonic() - began < 15.0
    assert summary.snapshot.first_prediction_seconds == 7.125
    assert capsys.readouterr().err.count("127.0.0.1:1 (yours)") == 1
    assert "Kafka: 127.0.0.1:1 (yours)" in (tmp_path / "logs" / "up.log").read_text()


def test_it_goes_on_until_its_time_is_over_where_no_prediction_comes(run):
    summary = run(RunLimit(1.0, 0.0, until_answered=True), Servers(answers_after_seconds=60.0))
    assert summary.snapshot.first_prediction_seconds is None
    assert 1.0 <= summary.seconds < 10.0
    assert summary.exit_code == 0, "no traffic was asked for, so none is missing"

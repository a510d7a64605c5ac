"""The watchdog command: its defaults are the policies', and its exit code when it is told to stop."""

import os
import signal
from types import SimpleNamespace

import pytest

from infra.up.guard import LOOK_SECONDS
from infra.up.lag_alert import LagPolicy
from infra.up.supervision import ChildState
from infra.up.watchdog import WatchdogPolicy
from infra.up.watchdog_cli import _run, watchdog


class Child:
    """Was killed and waits to be started again, when this process is told to stop."""

    pid, exit_status, state = None, -9, ChildState.WAITING

    def start(self):
        pass

    def look(self):
        os.kill(os.getpid(), signal.SIGTERM)

    def ask_to_stop(self):
        self.state = ChildState.STOPPED

    def has_stopped(self):
        return self.state is ChildState.STOPPED

    spec = SimpleNamespace(stop_seconds=1.0)


@pytest.fixture
def handlers():
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_stopped_while_its_child_waits_to_be_started_again_it_ends_well(handlers):
    guard = SimpleNamespace(start=lambda: None, due=list, stop=lambda: None)
    assert _run(Child(), guard) == 0


def test_its_defaults_are_those_of_the_policies():
    given = {option.name: option.default for option in watchdog.params}
    assert given["lag_seconds"] == LagPolicy().lag_seconds
    assert given["looks"] == WatchdogPolicy().stalled_looks
    assert given["look_seconds"] == LOOK_SECONDS

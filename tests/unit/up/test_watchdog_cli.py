"""The watchdog command's exit code when it is told to stop."""

import os
import signal
from types import SimpleNamespace

import pytest

from infra.up.supervision import ChildState
from infra.up.watchdog_cli import _run


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

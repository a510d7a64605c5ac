"""How a worker's process ends: 70 for what nobody foresaw, its own words for what people can put right."""

import gc

import click
import pytest

from inference_workers import worker_cli
from inference_workers.ports import DeviceLost
from infra.connect import NothingRunning
from infra.ports import Fatal, TryAgain
from infra.settings import SettingsError


class Ended(BaseException):
    """Stands for the end of the process."""


def raising(error):
    def serve():
        raise error

    return serve


@pytest.fixture
def codes(monkeypatch):
    seen = []

    def leave(code):
        seen.append(code)
        raise Ended

    monkeypatch.setattr(worker_cli.os, "_exit", leave)
    return seen


@pytest.mark.parametrize(
    "error",
    [
        Fatal("a newer producer took over"),
        RuntimeError("nobody foresaw this"),
        DeviceLost("device-side assert"),
        ConnectionResetError("of something else than Kafka"),
        BrokenPipeError("of whatever it was"),
        ConnectionError("said by a library"),
    ],
)
def test_what_is_broken_for_good_ends_the_process_with_70(codes, caplog, error):
    with pytest.raises(Ended):
        worker_cli.serve_guarded(raising(error))
    assert codes == [70]
    assert caplog.records[-1].exc_info[1] is error, "its stack is logged"


@pytest.mark.parametrize("error", [SettingsError("x"), TryAgain("x"), NothingRunning("x"), click.ClickException("x")])
def test_what_people_can_put_right_is_told_by_the_command_line(codes, error):
    with pytest.raises(type(error)):
        worker_cli.serve_guarded(raising(error))
    assert codes == []


def test_the_collector_leaves_out_what_was_there_and_comes_seldom():
    before = gc.get_threshold()
    try:
        worker_cli.spare_collections()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] == worker_cli.COLLECT_AFTER
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)

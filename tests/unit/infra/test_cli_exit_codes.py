"""How a command ends: the exit code says whether to try again, to change something, or to report a fault."""

import errno
import os
import subprocess
import sys

import pytest

from infra import cli
from infra.connect import NothingRunning
from infra.exit_codes import EXIT_CONFIGURATION, EXIT_INTERNAL, EXIT_TRY_AGAIN
from infra.ports import Fatal, RetryLater, TryAgain
from infra.settings import SettingsError

BREAKS = """
import sys
from infra import cli

def command(**how):
    {what}

cli.inferwatch = command
cli.main()
"""


def ended(monkeypatch, error):
    def command(**how):
        raise error

    monkeypatch.setattr(cli, "inferwatch", command)
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TryAgain("no Kafka"), EXIT_TRY_AGAIN),
        (NothingRunning("make up first"), EXIT_TRY_AGAIN),
        (RetryLater("it is away"), EXIT_TRY_AGAIN),
        (Fatal("the client is broken"), EXIT_INTERNAL),
        (SettingsError("INFERWATCH_X='1': no. Ways out: unset it."), EXIT_CONFIGURATION),
    ],
)
def test_what_is_foreseen_is_one_line_and_its_code(monkeypatch, capsys, error, code):
    assert ended(monkeypatch, error) == code
    said = capsys.readouterr().err
    assert str(error) in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "error", [ValueError("odd"), ConnectionResetError(errno.ECONNRESET, "reset"), BrokenPipeError(errno.EPIPE, "pipe")]
)
def test_what_nobody_foresaw_is_a_fault_with_its_stack(monkeypatch, capsys, error):
    assert ended(monkeypatch, error) == EXIT_INTERNAL
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert str(error) in said


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("print('x' * 1_000_000, flush=True)", 0),
        ("raise BrokenPipeError('of a socket, not of our output')", EXIT_INTERNAL),
    ],
)
def test_a_reader_that_has_enough_is_no_fault_and_no_other_broken_pipe_passes_for_one(what, code):
    read, write = os.pipe()
    program = [sys.executable, "-c", BREAKS.format(what=what)]
    keeps = code != 0
    process = subprocess.Popen(program, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    if not keeps:
        os.close(read)
    _, said = process.communicate(timeout=60)
    if keeps:
        os.close(read)
    assert process.returncode == code, said
    assert (b"Traceback" in said) is keeps

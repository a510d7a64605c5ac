"""`inferwatch detect` on a terminal: it shows how far it is, and leaves nothing of that behind."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

COLUMNS, ROWS = 100, 24
CLEARED = "\x1b[2K"
"""How a terminal is told to empty a line."""


@pytest.fixture
def history(tmp_path):
    values = np.random.default_rng(1).normal(size=2_000)
    path = tmp_path / "in.parquet"
    pq.write_table(
        pa.table({"series": ["a"] * 2_000, "ts": np.arange(2_000) * 60 + 1_700_000_000, "value": values}), path
    )
    return path


def detect(history, *arguments, stderr):
    out = history.with_name("out.csv")
    command = [sys.executable, "-m", "infra.cli", "detect", str(history), "--out", str(out), *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment | {"TERM": "xterm"})


def on_a_terminal(history, *arguments):
    """What it wrote to its terminal, and to standard output."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = detect(history, *arguments, stderr=its)
    os.close(its)
    shown = b""
    with suppress(OSError):  # Linux says so when nobody holds the other end any more
        while found := os.read(ours, 65_536):
            shown += found
    os.close(ours)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return shown.decode(), stdout.decode()


def test_it_shows_how_far_it_is_and_takes_that_away_again(history):
    shown, stdout = on_a_terminal(history, "--plot", str(history.with_name("p.png")), "--json")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"scoring .* 100%", plain)
    assert re.search(r"drawing .* 100%", plain)
    assert shown.rindex(CLEARED) > shown.rindex("100%")
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 2, "the cursor is there again"
    assert (stdout[0], stdout[-2:]) == ("{", "}\n")
    assert "scoring" not in stdout


def test_what_it_says_in_the_end_stands_on_lines_of_its_own(history):
    shown, stdout = on_a_terminal(history)
    after = shown[shown.rindex(CLEARED) + len(CLEARED) :]
    assert after.startswith("2,000 rows of 1 series in ")
    assert "100%" not in after
    assert stdout == ""


def test_where_there_is_no_terminal_nothing_is_drawn(history):
    process = detect(history, stderr=subprocess.PIPE)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (0, b"")
    assert stderr.startswith(b"2,000 rows of 1 series in ")
    assert b"\x1b" not in stderr

"""make down, reset and doctor install nothing: they run what is installed, or say that nothing is."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.parts import program

MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"


@pytest.fixture
def make(tmp_path):
    """Run make in a folder with nothing but the Makefile: a set-up there would fail."""
    shutil.copy(MAKEFILE, tmp_path)
    hidden = ("MAKE", "MFLAGS", "ARGS", "INFERWATCH_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"

    def run(target: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [program("make"), target, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    return run


@pytest.fixture
def installed(tmp_path):
    """An `inferwatch` that notes how it is called."""
    command = tmp_path / ".venv" / "bin" / "inferwatch"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\necho "$@" >> calls\n')
    command.chmod(0o755)
    return tmp_path / "calls"


def test_what_is_installed_is_run_as_it_is(make, installed):
    for target, arguments in (("down", ()), ("reset", ("ARGS=--yes",)), ("doctor", ("ARGS=--json",))):
        assert make(target, *arguments).returncode == 0
    assert installed.read_text().splitlines() == ["down", "down", "reset --yes", "doctor --json"]


@pytest.mark.parametrize("target", ["down", "reset"])
def test_a_fresh_clone_has_nothing_to_stop_or_delete(make, target):
    done = make(target)
    assert done.returncode == 0
    assert f"{target}: nothing runs here" in done.stdout
    assert "setup" not in done.stderr


@pytest.mark.parametrize("target", ["down", "reset"])
def test_data_without_the_programs_for_them_are_said(make, tmp_path, target):
    (tmp_path / ".inferwatch").mkdir()
    done = make(target)
    assert done.returncode != 0
    assert f"{target}: .inferwatch is there, but no .venv" in done.stderr
    assert "make setup" in done.stderr


def test_the_doctor_says_what_comes_first(make):
    done = make("doctor")
    assert done.returncode != 0
    assert "run make setup" in done.stderr


def test_tests_keep_what_python_compiled_though_the_environment_forbids_it(make, tmp_path):
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "forbidden: ${PYTHONDONTWRITEBYTECODE:-no}"\n')
    python.chmod(0o755)
    assert make("test", "PYTHON=true").stdout.splitlines() == ["forbidden: no"] * 3


def test_tests_run_in_three_parts_and_what_is_asked_for_in_one(make):
    """What watches the whole pipeline is not run beside anything else, and every folder is in one part."""
    all_of_it, one = make("--dry-run", "test").stdout, make("--dry-run", "test", "ARGS=-x tests/unit").stdout
    pure = ("tests/architecture", "tests/docs", "tests/laws", "tests/unit")
    servers = ("tests/contract", "tests/integration")
    parts = [line.split("-m pytest ")[1].split() for line in all_of_it.splitlines() if "-m pytest" in line]
    assert [[word for word in part if word.startswith("tests/")] for part in parts] == [[*pure], [*servers], []]
    assert [word for word in parts[2] if word.startswith("--ignore=")] == [f"--ignore={it}" for it in pure + servers]
    assert ["--numprocesses" in part for part in parts] == [True, True, False]
    assert [line.split("-m pytest ")[1] for line in one.splitlines() if "-m pytest" in line] == ["-x tests/unit"]

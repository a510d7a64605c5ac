"""What README and docs tell people to type is there, and the example for producers runs."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from infra.cli import inferwatch
from infra.kafka import KafkaTail
from infra.machine import GB, INSTALL_BYTES
from infra.provision import apply_topics
from infra.settings import StackSettings
from schemas.base import decode
from schemas.requests import InferenceRequested
from schemas.topics import REQUESTS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"```\w*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
NAMED = re.compile(r"(?:^|[|&;(] *|^\.venv/bin/)inferwatch((?: +[a-z][a-z-]*)+)", re.MULTILINE)


def commands() -> list[tuple[str, ...]]:
    """Every `inferwatch WORD ...` in code of the pages, cut where the arguments begin."""
    found = set()
    for page in PAGES:
        for block, inline in CODE.findall(page.read_text()):
            found |= {tuple(words.split()) for words in NAMED.findall(block or inline)}
    return sorted({command_path(words) for words in found})


def command_path(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words that name a command: all of them up to the first command that is no group."""
    command: click.Command | None = inferwatch
    for number, word in enumerate(words, start=1):
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)
        if not isinstance(command, click.Group):
            return words[:number]
    return words


def test_the_pages_name_commands():
    named = commands()
    assert {("up",), ("ask",), ("alerts", "tail"), ("topics", "apply"), ("drill", "latency")} <= set(named)


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_a_command_that_the_pages_name_is_there(path):
    result = CliRunner().invoke(inferwatch, [*path, "--help"])
    assert result.exit_code == 0, result.output
    assert f"Usage: inferwatch {' '.join(path)}" in result.output


def test_make_targets_that_the_pages_name_are_there():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set()
    for page in PAGES:
        for block, inline in CODE.findall(page.read_text()):
            named |= set(re.findall(r"^make ([a-z]+)", block or inline, re.MULTILINE))
    assert named
    assert named <= targets


@pytest.mark.parametrize("page", ["README.md", "docs/install.md"])
@pytest.mark.parametrize("system", sorted(INSTALL_BYTES))
def test_the_disk_that_the_pages_name_is_what_the_set_up_asks_for(page, system):
    assert f" {INSTALL_BYTES[system] / GB:g} GB" in (ROOT / page).read_text()


def test_the_python_example_runs(kafka, tmp_path, monkeypatch, until):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    apply_topics(kafka, StackSettings(), say=lambda text: None)
    monkeypatch.setenv("INFERWATCH_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    tail = KafkaTail(kafka, [REQUESTS.name], start="end")
    try:
        (tmp_path / "example.py").write_text(example)
        shown = subprocess.run(
            [sys.executable, str(tmp_path / "example.py")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert shown.returncode == 0, shown.stderr
        records = []
        until(lambda: records.extend(tail.poll(100, 0.2)) or len(records) >= example.count(".send("), "the requests")
    finally:
        tail.close()
    read = [decode(one.headers, one.value, [InferenceRequested]) for one in records if one.key is not None]
    assert {one.source for one in read} == {"shop"}
    assert "red shoes" in {one.data.input for one in read}
    for one in read:
        assert one.event_id in shown.stdout or one.data.input != "red shoes"

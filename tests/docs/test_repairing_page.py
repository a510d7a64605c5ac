"""The page about proving and repairing says what the commands do: differences, options, numbers, headers."""

import re
from pathlib import Path

from benchmarks.sink.sink_bench import sink
from infra.audit.audit_cli import counts
from infra.audit.findings import RANGES_MAX, Kind
from infra.audit.told import SPAN
from infra.repair.dead_letters_cli import dead_letters
from infra.repair.requeue import LEASE_MS
from schemas.refused_rows import RANGES_CHARACTERS_MAX, ROWS_HEADER
from schemas.requeues import FROM_HEADER, ID_HEADER
from schemas.topics import REQUEUES
from stream_jobs.sink import ROWS_MAX

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "repairing.md").read_text()


def test_every_difference_is_explained_and_no_other():
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == {kind.value for kind in Kind}


def test_options_are_the_commands():
    commands = [counts, sink, *dead_letters.commands.values()]
    known = {option for command in commands for parameter in command.params for option in parameter.opts}
    named = set(re.findall(r"(--[a-z-]*[a-z])", PAGE))
    assert named - known == set()
    audited = {option for parameter in counts.params for option in parameter.opts}
    assert audited - named == set()
    for command in dead_letters.commands.values():
        assert {option for one in command.params for option in one.opts if option.startswith("--")} <= named


def test_numbers_and_names_are_the_codes():
    assert f"{SPAN:,} offsets" in PAGE
    assert f"first {RANGES_MAX} ranges" in PAGE
    assert f"{ROWS_MAX:,}" in PAGE
    assert FROM_HEADER in PAGE
    assert ID_HEADER in PAGE
    assert ROWS_HEADER in PAGE
    assert f"{RANGES_CHARACTERS_MAX:,} characters" in PAGE
    assert f"`{REQUEUES.name}`" in PAGE
    assert LEASE_MS == 60_000
    assert "less than a\nminute ago" in PAGE

import json
import os

import pytest
from click.testing import CliRunner

from infra.up.folder import MARKER, FolderBusy, FolderError, StackFolder
from infra.up.up_cli import down, reset


@pytest.fixture
def folder(tmp_path, monkeypatch) -> StackFolder:
    monkeypatch.setenv("INFERWATCH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return StackFolder(tmp_path / "data")


def test_one_run_at_a_time(folder):
    with folder.claim(), pytest.raises(FolderBusy, match=str(os.getpid())):
        folder.claim()
    folder.claim().release()


def test_the_stack_file_names_this_process(folder):
    with folder.claim():
        folder.write_stack("127.0.0.1:1", "http://127.0.0.1:2")
        stack = folder.read_stack()
    assert stack is not None
    assert stack.pid == os.getpid()
    assert stack.process is not None
    assert json.loads((folder.path / "stack.json").read_text())["kafka_bootstrap_servers"] == "127.0.0.1:1"
    folder.remove_stack()
    assert folder.read_stack() is None


def test_a_process_number_given_to_another_is_not_ours(folder):
    with folder.claim():
        folder.write_stack("127.0.0.1:1", "http://127.0.0.1:2")
    content = json.loads((folder.path / "stack.json").read_text())
    (folder.path / "stack.json").write_text(json.dumps(content | {"created_at": content["created_at"] - 100.0}))
    stack = folder.read_stack()
    assert stack is not None
    assert stack.process is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}'])
def test_a_broken_stack_file_says_nothing(folder, text):
    folder.path.mkdir()
    (folder.path / "stack.json").write_text(text)
    assert folder.read_stack() is None


def test_a_new_folder_is_marked_and_a_full_one_that_is_not_ours_is_never_deleted(folder):
    folder.path.mkdir()
    (folder.path / "precious").write_text("x")
    folder.claim().release()
    with pytest.raises(FolderError, match="not made by"):
        folder.delete()
    assert (folder.path / "precious").exists()


def test_reset_deletes_a_marked_folder(folder):
    folder.claim().release()
    (folder.path / "kafka").mkdir()
    (folder.path / "kafka" / "log").write_text("x")
    assert (folder.path / MARKER).exists()
    result = CliRunner().invoke(reset, ["--yes"])
    assert result.exit_code == 0, result.output
    assert not folder.path.exists()
    assert CliRunner().invoke(reset, ["--yes"]).exit_code == 0


def test_reset_asks_first(folder):
    folder.claim().release()
    assert CliRunner().invoke(reset, input="n\n").exit_code != 0
    assert folder.path.exists()


def test_reset_is_refused_while_something_runs(folder):
    with folder.claim():
        result = CliRunner().invoke(reset, ["--yes"])
    assert result.exit_code == 75
    assert str(os.getpid()) in result.output
    assert folder.path.exists()


def test_reset_leaves_the_folder_one_works_in(folder, monkeypatch):
    folder.claim().release()
    monkeypatch.chdir(folder.path)
    assert CliRunner().invoke(reset, ["--yes"]).exit_code == 78
    assert folder.path.exists()


def test_down_says_when_nothing_runs_and_removes_what_a_killed_run_left(folder):
    folder.claim().release()
    (folder.path / "stack.json").write_text("{}")
    result = CliRunner().invoke(down)
    assert result.exit_code == 0
    assert "nothing is running" in result.output
    assert not (folder.path / "stack.json").exists()

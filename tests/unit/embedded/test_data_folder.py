import os
import subprocess
import sys

import pytest

from infra.embedded import data_folder
from infra.embedded.data_folder import FIRST_PORT, LAST_PORT, DataFolder
from infra.embedded.errors import FolderInUse, PortTaken, UnsuitableMachine


def test_a_second_claim_is_refused_with_the_owner(tmp_path):
    with DataFolder(tmp_path).claim("kafka"):
        with pytest.raises(FolderInUse, match=f"kafka is already running on .*process {os.getpid()} ") as refused:
            DataFolder(tmp_path).claim("kafka")
        assert refused.value.exit_code == 75
    DataFolder(tmp_path).claim("kafka").release()


def test_components_are_claimed_apart(tmp_path):
    with DataFolder(tmp_path).claim("kafka") as kafka, DataFolder(tmp_path).claim("clickhouse") as clickhouse:
        assert kafka.folder != clickhouse.folder


def test_release_may_be_repeated(tmp_path):
    claim = DataFolder(tmp_path).claim("kafka")
    claim.release()
    claim.release()
    with pytest.raises(ValueError, match="released"):
        claim.fileno()


def test_a_child_left_behind_still_owns_the_folder(tmp_path):
    # Its parent, the recorded owner, has ended; the lock lives on in a descriptor that was inherited.
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    claim = DataFolder(tmp_path).claim("kafka")
    os.truncate(claim.fileno(), 0)
    os.pwrite(claim.fileno(), f"{ended.pid}\n".encode(), 0)
    with pytest.raises(FolderInUse, match=f"child that process {ended.pid}, which has ended"):
        DataFolder(tmp_path).claim("kafka", take_over_s=0)
    claim.release()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnsuitableMachine, match="choose another data folder"):
        DataFolder(tmp_path / "file").claim("kafka")


@pytest.mark.parametrize("name", ["", "../x", "Kafka", "a/b"])
def test_component_names_are_plain(tmp_path, name):
    with pytest.raises(ValueError, match="small letters"):
        DataFolder(tmp_path).claim(name)


def test_what_is_remembered_outlives_the_claim(tmp_path):
    with DataFolder(tmp_path).claim("kafka") as claim:
        assert claim.recall("x") is None
        claim.remember("x", [1, 2])
        claim.remember("y", "z")
    with DataFolder(tmp_path).claim("kafka") as claim:
        assert claim.recall("x") == [1, 2]
        assert claim.recall("y") == "z"


@pytest.mark.parametrize("torn", [b"", b'{"ports": {"br', b"[]", b"\xff\xfe"])
def test_a_torn_state_file_is_a_first_start(tmp_path, torn):
    with DataFolder(tmp_path).claim("kafka") as claim:
        (claim.folder / "state.json").write_bytes(torn)
        assert claim.recall("ports", {}) == {}
        claim.remember("x", 1)
        assert claim.recall("x") == 1


@pytest.fixture
def busy(monkeypatch):
    """Ports that something listens on, in the eyes of the code under test."""
    ports = set()
    monkeypatch.setattr(data_folder, "is_free", lambda port: port not in ports)
    return ports


def test_a_port_is_kept_from_start_to_start(tmp_path, busy):
    with DataFolder(tmp_path).claim("kafka") as claim:
        port = claim.choose_port("broker")
        assert FIRST_PORT <= port <= LAST_PORT
        assert claim.choose_port("controller") != port
    with DataFolder(tmp_path).claim("kafka") as claim:
        assert claim.choose_port("broker") == port


def test_a_port_that_was_taken_meanwhile_is_replaced(tmp_path, busy):
    with DataFolder(tmp_path).claim("kafka") as claim:
        first = claim.choose_port("broker")
        busy.add(first)
        second = claim.choose_port("broker")
        assert second != first
        busy.clear()
        assert claim.choose_port("broker") == second


def test_a_named_port_is_used_and_remembered_or_refused(tmp_path, busy):
    with DataFolder(tmp_path).claim("kafka") as claim:
        assert claim.choose_port("broker", 9092) == 9092
        assert claim.choose_port("broker") == 9092
        busy.add(9093)
        with pytest.raises(PortTaken, match=r"port 9093 .* in use"):
            claim.choose_port("broker", 9093)


def test_no_free_port_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(data_folder, "is_free", lambda port: False)
    with DataFolder(tmp_path).claim("kafka") as claim, pytest.raises(UnsuitableMachine, match="no free port"):
        claim.choose_port("broker")


def test_folders_start_at_different_ports(tmp_path, busy):
    chosen = set()
    for number in range(8):
        with DataFolder(tmp_path / str(number)).claim("kafka") as claim:
            chosen.add(claim.choose_port("broker"))
    assert len(chosen) > 1

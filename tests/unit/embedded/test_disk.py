import errno
import os

import pytest

from infra.embedded import broker, disk
from infra.embedded.broker import EmbeddedKafka
from infra.embedded.data_folder import DataFolder
from infra.embedded.disk import MIB, free_bytes, full_disk_named, full_disk_note, is_no_room, require_room
from infra.embedded.errors import DiskFull


def test_a_full_disk_and_a_used_up_quota_are_no_room_and_nothing_else_is():
    assert is_no_room(OSError(errno.ENOSPC, ""))
    assert is_no_room(OSError(errno.EDQUOT, ""))
    assert not is_no_room(OSError(errno.EACCES, ""))
    assert not is_no_room(BrokenPipeError(errno.EPIPE, ""))


def test_a_folder_that_is_not_there_yet_has_the_room_of_its_parent(tmp_path):
    assert free_bytes(tmp_path / "not" / "there") > 0


def test_a_write_that_finds_no_room_is_named_and_tried_again_later(tmp_path):
    with (
        pytest.raises(DiskFull, match=r"The disk of .* is full .*make room on it") as raised,
        full_disk_named(tmp_path),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert raised.value.exit_code == 75
    with pytest.raises(PermissionError), full_disk_named(tmp_path):
        raise PermissionError(errno.EACCES, "")


def test_the_note_names_the_disk_only_when_it_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 3 * MIB)
    assert "is full (3.0 MiB are left)" in full_disk_note(tmp_path)
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 300 * MIB)
    assert full_disk_note(tmp_path) == ""


def test_a_start_that_needs_more_than_there_is_says_how_much(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 255 * MIB)
    require_room(tmp_path, 255 * MIB)
    with pytest.raises(DiskFull, match="It needs 256 MiB to start"):
        require_room(tmp_path, 256 * MIB)


def test_a_claim_on_a_full_disk_is_not_a_machine_that_cannot_be_used(tmp_path, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DiskFull):
        DataFolder(tmp_path).claim("kafka")


def test_a_claim_leaves_its_own_process_id_alone_over_a_longer_one(tmp_path):
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "lock").write_text("123456789012\n")
    with DataFolder(tmp_path).claim("kafka"):
        assert (tmp_path / "kafka" / "lock").read_text() == f"{os.getpid()}\n"


def test_kafka_that_had_no_room_to_log_why_it_ended_says_that_its_disk_is_full(tmp_path, monkeypatch):
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "broker.log").write_text("WARN the log directory has failed\n")
    kafka = EmbeddedKafka(tmp_path)
    assert kafka.last_log_lines() == "WARN the log directory has failed"
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 0)
    assert kafka.last_log_lines().splitlines()[-1].startswith(f"The disk of {tmp_path / 'kafka'} is full (0.0 MiB")


def test_kafka_that_cannot_write_its_files_names_the_disk_and_gives_its_claim_back(tmp_path, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(broker, "prepare_kafka", lambda *given: None)
    monkeypatch.setattr(broker, "format_once", full)
    with pytest.raises(DiskFull):
        EmbeddedKafka(tmp_path).start()
    DataFolder(tmp_path).claim("kafka").release()

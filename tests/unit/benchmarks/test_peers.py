import os
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest

from benchmarks import peers
from benchmarks.peers import DONE, PEERS, command_of, environment_folder, packages_of

PEER = PEERS[0]


@pytest.fixture
def uv(monkeypatch, tmp_path):
    """A stand-in for uv whose words and exit code a test chooses; what it was asked is written down."""

    def make(exit_code=0, words=""):
        script = tmp_path / "uv"
        script.write_text(
            f"#!{sys.executable}\nimport sys\n"
            f"open({str(tmp_path / 'asked')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
            f"sys.stderr.write({words!r})\nsys.exit({exit_code})\n"
        )
        script.chmod(0o755)
        monkeypatch.setattr(peers, "_uv", lambda: str(script))
        return tmp_path / "asked"

    return make


def test_every_peer_gets_our_torch_and_its_own_script():
    for peer in PEERS:
        assert packages_of(peer)[-1].startswith("torch==")
        assert all("==" in package for package in packages_of(peer))
        assert Path(peers.__file__).with_name(peer.script).is_file()


def test_it_is_installed_once_outside_the_repository(uv, tmp_path):
    asked = uv()
    said = []
    command = command_of(PEER, said.append, tmp_path)
    folder = environment_folder(PEER, tmp_path)
    assert command[0].startswith(str(folder))
    assert (folder / DONE).read_text().splitlines() == list(packages_of(PEER))
    assert len(said) == 1
    lines = asked.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["venv", "pip"]
    assert command_of(PEER, said.append, tmp_path) == command
    assert len(asked.read_text().splitlines()) == 2


@pytest.fixture(autouse=True)
def folders(tmp_path):
    """What the stand-in does not make."""
    for peer in PEERS:
        os.makedirs(environment_folder(peer, tmp_path), exist_ok=True)


def test_why_it_cannot_be_installed_is_said(uv, tmp_path):
    uv(exit_code=2, words="no such host")
    with pytest.raises(click.ClickException, match="cannot be installed: no such host"):
        command_of(PEER, lambda text: None, tmp_path)
    assert not (environment_folder(PEER, tmp_path) / DONE).exists()


def test_without_room_on_the_disk_nothing_is_fetched(uv, tmp_path):
    asked = uv()
    with pytest.raises(click.ClickException, match="GB free"):
        command_of(replace(PEER, bytes_needed=10**18), lambda text: None, tmp_path)
    assert not asked.exists()


def test_without_uv_the_way_out_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(peers.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(peers.shutil, "which", lambda name: None)
    with pytest.raises(click.ClickException, match="make setup"):
        peers._uv()

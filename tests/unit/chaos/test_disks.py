import os

import pytest

from tests.chaos import disks
from tests.chaos.disks import is_inside, ways_in


def test_a_user_becomes_root_of_a_namespace_and_root_tries_without_first():
    assert ways_in(1000) == [["unshare", "--mount", "--map-root-user"]]
    assert ways_in(0) == [["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]]


@pytest.mark.parametrize(
    ("here", "outside", "inside"),
    [
        ("mnt:[2]", "mnt:[1]", True),
        ("mnt:[1]", None, False),
        ("mnt:[1]", "", False),
        ("mnt:[1]", "mnt:[1]", False),  # the variable is left over: nothing was entered
        (None, "mnt:[1]", False),
    ],
)
def test_a_namespace_is_told_by_itself_and_not_by_a_variable(here, outside, inside):
    assert is_inside(here, outside) is inside


def test_where_there_are_no_namespaces_the_reason_is_given(monkeypatch):
    monkeypatch.setattr(disks, "namespace", lambda: None)
    assert "mount namespaces" in disks.enter()


def test_where_mounts_are_refused_the_reason_is_the_machines(monkeypatch):
    monkeypatch.delenv(disks.OUTSIDE, raising=False)
    monkeypatch.setattr(disks, "namespace", lambda: "mnt:[1]")
    monkeypatch.setattr(disks.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(disks, "refusal", lambda way: "unshare failed: Operation not permitted")
    assert disks.enter() == "this machine does not let us mount: unshare failed: Operation not permitted"
    assert disks.OUTSIDE not in os.environ

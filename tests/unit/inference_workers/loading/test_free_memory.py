"""What is free of this machine's memory, and of the control groups that this process is in."""

import pytest

from inference_workers.loading.free_memory import free_host_bytes, free_in_cgroups


def test_free_memory_of_this_machine():
    assert 10**7 < free_host_bytes() < 10**14


def cgroup(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_cgroup_2_limits_up_to_the_root(tmp_path):
    cgroup(tmp_path / "pod" / "box", memory__max="max", memory__current=40)
    cgroup(tmp_path / "pod", memory__max=1_000, memory__current=700, memory__stat="anon 500\ninactive_file 150")
    cgroup(tmp_path, memory__stat="anon 1")
    assert free_in_cgroups("0::/pod/box\n", tmp_path) == [450]
    cgroup(tmp_path / "pod" / "box", memory__max=100, memory__current=140)
    assert free_in_cgroups("0::/pod/box\n", tmp_path) == [0, 450]


def test_cgroup_1_limits_seen_from_within_a_container(tmp_path):
    named = {"memory__limit_in_bytes": 2_000, "memory__usage_in_bytes": 1_500}
    cgroup(tmp_path / "memory", **named, memory__stat="total_inactive_file 100")
    membership = "4:memory:/docker/abc\n3:cpuset:/x\n1:name=systemd:/y\n0::/\n"
    assert free_in_cgroups(membership, tmp_path) == [600]
    cgroup(tmp_path / "memory", memory__limit_in_bytes=9223372036854771712)
    assert free_in_cgroups(membership, tmp_path) == []


@pytest.mark.parametrize("membership", ["", "nonsense", "0::", "4:memory"])
def test_what_is_no_cgroup_limits_nothing(tmp_path, membership):
    assert free_in_cgroups(membership, tmp_path) == []

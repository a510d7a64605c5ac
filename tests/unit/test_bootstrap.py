"""The set-up's pure parts: what it refuses, when it runs again, what it tells uv. Nothing is installed."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from infra import bootstrap
from infra.bootstrap import Setup, SetupError
from infra.exit_codes import EXIT_CONFIGURATION, EXIT_TRY_AGAIN
from infra.machine import GB, disk_problem, platform_problem, python_suits, version_tuple
from infra.mirrors import index_environment, parse_pip_settings

ROOT = Path(__file__).resolve().parents[2]
GLIBC = ("glibc", "2.36")


@pytest.mark.parametrize(
    ("system", "machine", "libc", "macos", "reason"),
    [
        ("Linux", "x86_64", GLIBC, "", None),
        ("Linux", "x86_64", ("glibc", "2.28"), "", None),
        ("Linux", "x86_64", ("glibc", "2.27"), "", "confluent-kafka"),
        ("Linux", "x86_64", ("", ""), "", "aiokafka"),
        ("Linux", "aarch64", GLIBC, "", "faust-streaming"),
        ("Darwin", "arm64", ("", ""), "14.0", None),
        ("Darwin", "arm64", ("", ""), "26.1", None),
        ("Darwin", "arm64", ("", ""), "13.6.1", "torch"),
        ("Darwin", "x86_64", ("", ""), "15.0", "torch"),
        ("Windows", "AMD64", ("", ""), "", "chdb"),
        ("FreeBSD", "amd64", ("", ""), "", "FreeBSD"),
    ],
)
def test_platform_verdict_names_the_package_in_the_way(system, machine, libc, macos, reason):
    problem = platform_problem(system, machine, libc, macos)
    if reason is None:
        assert problem is None
    else:
        assert problem is not None
        assert reason in problem


def test_disk_verdict_says_how_much_is_missing_and_the_way_out():
    assert disk_problem(8 * GB, 7 * GB, "/x", "the environment") is None
    problem = disk_problem(2 * GB, 7 * GB, "/x", "the environment")
    assert problem is not None
    assert "/x has 2.0 GB free" in problem
    assert "needs 7.0 GB" in problem
    assert "UV_CACHE_DIR" in problem


@pytest.mark.parametrize(
    ("version", "suits"),
    [((3, 10, 9), False), ((3, 11), True), ((3, 14, 2), True), ((3, 15), False), ((), False), ((4,), False)],
)
def test_python_range(version, suits):
    assert python_suits(version) is suits


def test_python_range_is_the_one_of_the_project_file():
    text = (ROOT / "pyproject.toml").read_text()
    assert 'requires-python = ">=3.11,<3.15"' in text


@pytest.mark.parametrize(("text", "version"), [("14.2.1", (14, 2, 1)), ("2.36-x", (2, 36)), ("", ()), ("v1", ())])
def test_version_tuple(text, version):
    assert version_tuple(text) == version


def test_stamp_changes_with_every_input_and_with_python_only():
    files = {"a.lock": b"1", "b.lock": b"2"}
    first = bootstrap.stamp_digest(files, "3.11.7")
    assert first == bootstrap.stamp_digest(dict(reversed(files.items())), "3.11.7")
    others = [
        bootstrap.stamp_digest(files, "3.12.0"),
        bootstrap.stamp_digest({**files, "a.lock": b"2"}, "3.11.7"),
        bootstrap.stamp_digest({"a.lock": b"2", "b.lock": b"1"}, "3.11.7"),
        bootstrap.stamp_digest({"a.lock": b"1"}, "3.11.7"),
    ]
    assert len({first, *others}) == 5


def make_checkout(root: Path) -> Setup:
    """A checkout in which the set-up has finished."""
    for name in bootstrap.STAMP_INPUTS:
        (root / name).write_text(name)
    setup = Setup(root, {})
    (setup.venv / "bin").mkdir(parents=True)
    for name in ("python", "inferwatch"):
        Path(setup.tool(name)).touch()
    setup.stamp.write_text(json.dumps(setup.wanted_stamp("3.12.1")))
    return setup


def test_a_finished_set_up_is_current(tmp_path):
    assert make_checkout(tmp_path).is_current()


def test_a_set_up_is_stale_when_an_input_changes(tmp_path):
    setup = make_checkout(tmp_path)
    for name in bootstrap.STAMP_INPUTS:
        before = (tmp_path / name).read_text()
        (tmp_path / name).write_text("changed")
        assert not setup.is_current(), name
        (tmp_path / name).write_text(before)
    assert setup.is_current()


@pytest.mark.parametrize("lost", ["bin/python", "bin/inferwatch", "inferwatch-setup.json"])
def test_a_set_up_is_stale_when_a_part_is_gone(tmp_path, lost):
    setup = make_checkout(tmp_path)
    (setup.venv / lost).unlink()
    assert not setup.is_current()


def test_a_moved_folder_is_stale(tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    make_checkout(old)
    old.rename(tmp_path / "new")
    assert not Setup(tmp_path / "new", {}).is_current()


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"'])
def test_a_damaged_stamp_means_again(tmp_path, text):
    setup = make_checkout(tmp_path)
    setup.stamp.write_text(text)
    assert not setup.is_current()


def test_what_an_interrupted_set_up_left_is_not_built_upon(tmp_path):
    setup = make_checkout(tmp_path)
    python = Path(setup.tool("python"))
    assert not setup.can_keep_venv(), "its Python does not run"
    python.unlink()
    python.symlink_to(sys.executable)
    assert setup.can_keep_venv()
    setup.stamp.unlink()
    assert not setup.can_keep_venv()


def test_the_locked_installer_is_cut_out_with_its_hashes():
    lock = "uvloop==1.0 \\\n    --hash=sha256:aa\nuv==0.1.2 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\nx==1\n"
    pinned = bootstrap.locked_lines(lock, "uv")
    assert pinned == "uv==0.1.2 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
    with pytest.raises(SetupError, match="does not pin nothing"):
        bootstrap.locked_lines(lock, "nothing")


def test_pip_settings_are_read_from_its_own_listing():
    listing = (
        ":env:.find-links='/a /b'\nglobal.cert='/etc/ca.pem'\nglobal.index-url='https://mirror/simple'\n"
        "global.extra-index-url='\\nhttps://one\\nhttps://two'\ndownload.cert='/other.pem'\nnoise\n"
    )
    assert parse_pip_settings(listing) == {
        "find-links": "/a /b",
        "cert": "/etc/ca.pem",
        "index-url": "https://mirror/simple",
        "extra-index-url": "https://one https://two",
    }


def test_a_mirror_set_for_pip_holds_for_uv():
    settings = {"index-url": "https://mirror", "extra-index-url": "https://one https://two", "cert": "/ca.pem"}
    added = index_environment(settings, {})
    assert added == {
        "UV_DEFAULT_INDEX": "https://mirror",
        "UV_INDEX": "https://one https://two",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "SSL_CERT_FILE": "/ca.pem",
    }


def test_a_mirror_set_for_uv_holds_for_pip():
    added = index_environment({}, {"UV_DEFAULT_INDEX": "https://mirror", "SSL_CERT_FILE": "/ca.pem"})
    assert added == {"PIP_INDEX_URL": "https://mirror", "PIP_CERT": "/ca.pem"}


def test_what_is_set_for_a_tool_stays():
    environment = {"UV_DEFAULT_INDEX": "https://uv", "SSL_CERT_FILE": "/uv.pem"}
    assert index_environment({"index-url": "https://pip", "cert": "/pip.pem"}, environment) == {}


def test_a_full_disk_is_said_before_anything_is_downloaded(tmp_path, monkeypatch, capsys):
    for name in bootstrap.LOCKS:
        (tmp_path / name).touch()
    monkeypatch.setattr(bootstrap, "INSTALL_BYTES", {"Linux": 10**18, "Darwin": 10**18})
    setup = Setup(tmp_path, {"UV_CACHE_DIR": str(tmp_path)})
    with pytest.raises(SetupError, match="needs 1000000000") as caught:
        setup.check_disk()
    assert caught.value.exit_code == EXIT_TRY_AGAIN
    assert "from scratch: about" in capsys.readouterr().err


MB = 1_000_000


@pytest.fixture
def interrupted(tmp_path):
    """A checkout of which an interrupted set-up has left parts: 3 MB in the cache, 1 MB in .venv alone."""
    for name, lock in zip(bootstrap.LOCKS, ("torch==2.15.0 \\\n    --hash=sha256:aa\n", "model==1\n"), strict=True):
        (tmp_path / name).write_text(lock)
    cache = tmp_path / "cache"
    for name, version, size in (("torch", "2.15.0", 3 * MB), ("torch", "2.14.0", 9 * MB), ("other", "2.15.0", 9 * MB)):
        unpacked = cache / "archive-v0" / f"{name}{version}" / "lib"
        unpacked.mkdir(parents=True)
        (unpacked / "big.so").write_bytes(b"x" * size)
        wheel = cache / "wheels-v8" / "pypi" / name / f"{version}-cp311-manylinux"
        wheel.parent.mkdir(parents=True, exist_ok=True)
        wheel.symlink_to(unpacked.parent)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "own").write_bytes(b"x" * MB)
    (tmp_path / ".venv" / "linked").hardlink_to(cache / "archive-v0" / "torch2.15.0" / "lib" / "big.so")
    return Setup(tmp_path, {"UV_CACHE_DIR": str(cache)})


@pytest.mark.parametrize(("free", "enough"), [(0.5 * MB, False), (1.2 * MB, True), (6 * MB, True)])
def test_the_advised_second_try_needs_room_only_for_the_rest(interrupted, monkeypatch, free, enough):
    monkeypatch.setattr(bootstrap, "INSTALL_BYTES", {"Linux": 5 * MB, "Darwin": 5 * MB})
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    assert interrupted.held_bytes(interrupted.root) == pytest.approx(4 * MB, rel=0.05)
    if enough:
        interrupted.check_disk()
    else:
        with pytest.raises(SetupError, match="the rest of the environment needs"):
            interrupted.check_disk()


def test_an_unsupported_machine_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    for name in bootstrap.STAMP_INPUTS:
        (tmp_path / name).touch()
    monkeypatch.setattr(bootstrap, "platform_problem", lambda *_: "chdb has no wheel for it")
    with pytest.raises(SetupError, match="not supported: chdb has no wheel") as caught:
        Setup(tmp_path, {}).ensure()
    assert caught.value.exit_code == EXIT_CONFIGURATION
    assert not (tmp_path / ".venv").exists()


def test_no_suitable_python_names_what_to_install(monkeypatch):
    monkeypatch.setattr(bootstrap, "python_suits", lambda version: False)
    with pytest.raises(SetupError, match=r"apt install python3\.11") as caught:
        bootstrap.find_python()
    assert caught.value.exit_code == EXIT_CONFIGURATION


def test_a_failed_step_says_what_helps(tmp_path):
    with pytest.raises(SetupError, match="HTTPS_PROXY") as caught:
        Setup(tmp_path, {}).run([sys.executable, "-c", "raise SystemExit(3)"], "installing packages")
    assert "installing packages failed (exit 3)" in str(caught.value)


def test_stdout_stays_empty_for_the_command_that_make_runs_next(tmp_path, capfd):
    bootstrap.say("installing")
    Setup(tmp_path, {}).run([sys.executable, "-c", "print('uv speaks')"], "a step")
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "setup: installing\n" in shown.err
    assert "uv speaks\n" in shown.err


def test_the_set_up_imports_the_standard_library_only():
    code = (
        "import sys; before = set(sys.modules); import infra.bootstrap\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names - {'infra'}))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert shown.stdout.strip() == "[]"

"""The manifest: what is listed is there and as listed, and nothing else."""

import hashlib
import json

import pytest

from inference_workers.models.files import MANIFEST_FILE, SUMS_FILE
from inference_workers.models.manifest import check_manifest, read_manifest, write_manifest
from inference_workers.models.verdicts import ModelRefused, Refusal
from tests.tiny_models import tiny_bert


@pytest.fixture
def folder(tmp_path):
    return tiny_bert(tmp_path / "model")


def check(folder):
    manifest = read_manifest(folder, "m")
    assert manifest is not None
    check_manifest(folder, manifest, "m")
    return manifest


def test_without_one_there_is_none(folder):
    assert read_manifest(folder, "m") is None


def test_what_is_written_holds_and_lists_every_file_of_the_model(folder):
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "README.md").write_text("no part of the model")
    written = write_manifest(folder)
    assert set(written.files) == {
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert check(folder).files == written.files
    (folder / "README.md").write_text("changed")
    (folder / "golden.json").write_text("{}")
    check(folder)
    assert write_manifest(folder).files == written.files, "it does not list itself"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_changed_file_is_named(folder, name):
    write_manifest(folder)
    raw = bytearray((folder / name).read_bytes())
    raw[-3] ^= 1
    (folder / name).write_bytes(raw)
    with pytest.raises(ModelRefused, match=rf"{name} has sha256 .*Ways out") as refusal:
        check(folder)
    assert refusal.value.reason is Refusal.MANIFEST


def test_a_file_of_another_size_is_named_without_reading_it(folder, monkeypatch):
    write_manifest(folder)
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    with pytest.raises(ModelRefused, match=r"config\.json has \d+ bytes"):
        check(folder)


def test_a_missing_and_an_added_file_are_named(folder):
    write_manifest(folder)
    (folder / "generation_config.json").write_text("{}")
    with pytest.raises(ModelRefused, match=r"generation_config\.json is not in"):
        check(folder)
    (folder / "generation_config.json").unlink()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelRefused, match=r"tokenizer\.json is in .* and not in the folder"):
        check(folder)


@pytest.mark.parametrize(
    "said",
    [
        "{",
        "[]",
        '{"format": "other/1", "files": {}}',
        '{"format": "inferwatch-manifest/1", "files": []}',
        '{"format": "inferwatch-manifest/1", "files": {"a": "b"}}',
        '{"format": "inferwatch-manifest/1", "files": {"a": {"sha256": "00", "bytes": 1}}}',
        '{"format": "inferwatch-manifest/1", "files": {"a": {"sha256": "%s", "bytes": true}}}' % ("0" * 64),
    ],
)
def test_a_manifest_that_says_nothing_usable_is_refused(folder, said):
    (folder / MANIFEST_FILE).write_text(said)
    with pytest.raises(ModelRefused, match="inferwatch-manifest"):
        check(folder)


def test_a_manifest_that_names_files_elsewhere_is_refused(folder):
    write_manifest(folder)
    said = json.loads((folder / MANIFEST_FILE).read_text())
    said["files"]["../other.json"] = {"sha256": "0" * 64, "bytes": 1}
    (folder / MANIFEST_FILE).write_text(json.dumps(said))
    with pytest.raises(ModelRefused, match="outside its folder"):
        check(folder)


def sums(folder, names, mark=" "):
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()} {mark}{name}" for name in names]
    (folder / SUMS_FILE).write_text("\n".join(lines) + "\n")


ALL = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize("mark", [" ", "*", " ./", "*./"])
def test_a_list_of_sha256sum_does_too(folder, mark):
    sums(folder, ALL, mark)
    assert check(folder).file == SUMS_FILE
    (folder / "config.json").write_text("{} ")
    with pytest.raises(ModelRefused, match=r"config\.json has sha256"):
        check(folder)


def test_a_list_of_sha256sum_may_name_more_than_the_model_but_not_less(folder):
    (folder / "pytorch_model.bin").write_bytes(b"x")
    sums(folder, [*ALL, "pytorch_model.bin"])
    check(folder)
    (folder / "pytorch_model.bin").unlink()
    check(folder)
    sums(folder, ALL[:2])
    with pytest.raises(ModelRefused, match=r"tokenizer\.json is not in SHA256SUMS"):
        check(folder)


def test_our_manifest_goes_before_a_list_of_sha256sum(folder):
    sums(folder, ["config.json"])
    write_manifest(folder)
    assert check(folder).file == MANIFEST_FILE


def test_a_line_that_is_none_of_sha256sum_is_refused(folder):
    (folder / SUMS_FILE).write_text("MD5 (config.json) = 0123\n")
    with pytest.raises(ModelRefused, match="none of sha256sum's"):
        check(folder)
    (folder / SUMS_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(ModelRefused, match="SHA256SUMS cannot be read"):
        check(folder)

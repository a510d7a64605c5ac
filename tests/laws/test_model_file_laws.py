"""Whatever lies in a model's folder, the worker takes it or refuses it in words; it never fails otherwise."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_workers.golden import Golden, Sample, Tolerance, judge
from inference_workers.loading.load import load_servable
from inference_workers.loading.preflight import ModelWanted
from inference_workers.models.forecast import forecast, shortage
from inference_workers.models.manifest import check_manifest, read_manifest
from inference_workers.models.registry import find_model
from inference_workers.models.verdicts import ModelRefused, judged
from inference_workers.models.weight_headers import WeightFacts, weight_facts
from inference_workers.ports import Head
from inference_workers.spec import WorkerSettings
from infra.settings import load
from schemas.predictions import Embedding
from schemas.requests import InferenceRequested
from schemas.vectors import encode_vector
from tests.tiny_models import Engines, tiny_bert

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    SCALARS, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=8), one, max_size=3)
)
KEYS = {
    "config.json": (
        "model_type",
        "architectures",
        "max_position_embeddings",
        "pad_token_id",
        "vocab_size",
        "hidden_size",
    ),
    "modules.json": ("type", "path"),
    "tokenizer_config.json": ("model_max_length", "unk_token"),
    "sentence_bert_config.json": ("max_seq_length",),
    "model.safetensors.index.json": ("weight_map",),
    "tokenizer.json": ("model", "normalizer", "added_tokens"),
    "golden.json": ("format", "digest", "samples", "tolerance"),
    "inferwatch-manifest.json": ("format", "files"),
}


@st.composite
def said(draw):
    """A file of the folder, and JSON that often looks like what it should hold."""
    name = draw(st.sampled_from(sorted(KEYS)))
    loose = st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS[name], JSON))
    return name, draw(JSON | loose | st.lists(loose, max_size=2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("models") / "tiny")


def verdict_on(folder):
    """The event about the folder's model, and the words of its refusal."""
    options = load(WorkerSettings, model=str(folder))
    try:
        return judged("w", load_servable(ModelWanted.of_settings(options), options, Engines().outside()).facts), ""
    except ModelRefused as refusal:
        return judged("w", refusal.facts, refusal=refusal), str(refusal)


@given(said())
@settings(max_examples=120)
def test_a_folder_is_taken_or_refused(folder, file):
    name, content = file
    path = folder / name
    before = path.read_bytes() if path.exists() else None
    try:
        config = json.loads((folder / "config.json").read_bytes())
        if name == "config.json" and isinstance(content, dict):
            content = config | content
        path.write_text(json.dumps(content))
        event, words = verdict_on(folder)
        assert event.reason == "" or "Ways out" in words
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)


@given(JSON, st.binary(max_size=16))
def test_a_header_is_read_or_refused(tmp_path_factory, header, rest):
    path = tmp_path_factory.getbasetemp() / "law.safetensors"
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + rest)
    try:
        facts = weight_facts([path], "m")
    except ModelRefused:
        return
    assert facts.parameters >= 0
    assert facts.total_bytes <= len(rest)


@given(st.binary(max_size=64))
def test_sums_are_read_or_refused(folder, raw):
    (folder / "SHA256SUMS").write_bytes(raw)
    try:
        manifest = read_manifest(folder, "m")
        assert manifest is not None
        with pytest.raises(ModelRefused):  # the model's files cannot all be listed in so few bytes
            check_manifest(folder, manifest, "m")
    except ModelRefused:
        pass
    finally:
        (folder / "SHA256SUMS").unlink()


@given(
    st.dictionaries(st.sampled_from(["hidden_size", "num_hidden_layers", "vocab_size", "text_config"]), JSON),
    st.sampled_from(list(Head)),
    st.sampled_from(["float32", "bfloat16", "int8", "another"]),
    st.integers(1, 1_048_576),
)
def test_any_configuration_has_a_forecast(config, head, dtype, tokens):
    facts = WeightFacts(1_000, 4_000, 8, 4_000, ("F32",))
    wanted = forecast(facts, config, head, dtype=dtype, device="cpu", tokens=tokens, items=64)
    assert wanted.total_bytes >= wanted.weights_bytes > 0
    assert shortage(wanted, 0) is not None
    assert shortage(wanted, wanted.total_bytes) is None


FLOATS = st.lists(st.floats(width=32), min_size=1, max_size=4)


@given(FLOATS, FLOATS)
def test_a_verdict_is_always_a_number_and_equal_answers_pass(expected, found):
    golden = Golden(
        tolerance=Tolerance(), samples=[Sample(request=InferenceRequested(input="a"), outputs=[vector(expected)])]
    )
    for answer in (found, expected):
        result, why = judge(golden, [[vector(answer)]])
        assert np.isfinite(result.worst)
        assert result.passed is (why == "")
    if np.isfinite(expected).all() and 1e-15 < np.abs(expected).max() < 1e15:
        assert result.passed


def vector(numbers):
    return Embedding(vector=encode_vector(np.array(numbers, "<f4").tobytes()), dimension=len(numbers))


def test_the_folder_of_these_laws_is_a_good_model(folder):
    assert find_model(str(folder)).tokens_max == 32

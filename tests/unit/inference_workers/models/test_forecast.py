"""Memory before loading: what the headers say, and what that comes to."""

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from inference_workers.models.forecast import Forecast, forecast, shape_of, shortage
from inference_workers.models.verdicts import ModelRefused, Refusal
from inference_workers.models.weight_headers import WeightFacts, weight_facts
from inference_workers.ports import Head
from tests.parts import default_model
from tests.tiny_models import HIDDEN, POSITIONS, WORDS, tiny_bert

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
}
FACTS_8B = WeightFacts(8_030_000_000, 16_060_000_000, 0, 1_050_000_000, ("BF16",))


def test_parameters_are_counted_from_headers(tmp_path):
    tensors = {"a": np.ones((3, 5), np.float32), "b": np.ones(7, np.float16), "ids": np.arange(9)}
    save_file(tensors, tmp_path / "a.safetensors", {"format": "pt"})
    facts = weight_facts([tmp_path / "a.safetensors"], "m")
    assert (facts.parameters, facts.float_bytes, facts.other_bytes, facts.total_bytes) == (22, 74, 72, 146)
    assert facts.largest_tensor_bytes == 72
    assert facts.dtypes == ("F16", "F32", "I64")


def test_the_default_model_has_22_7_million():
    facts = weight_facts(default_model().weights, "m")
    assert facts.parameters == 22_713_216
    assert facts.float_bytes == 4 * 22_713_216


def broken(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"pickle?",
        broken(b"{", b""),
        broken(b"{}", b"more"),
        broken(b"{}", b"", length=10**12),
        broken(b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}', b"\0" * 15),
        broken(b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}'),
        broken(b'{"a": {"shape": [4]}}'),
        broken(b"[]"),
    ],
)
def test_a_file_that_is_no_whole_safetensors_file_is_refused(tmp_path, raw):
    (tmp_path / "a.safetensors").write_bytes(raw)
    with pytest.raises(ModelRefused, match=r"a\.safetensors is no whole safetensors file") as refusal:
        weight_facts([tmp_path / "a.safetensors"], "m")
    assert refusal.value.reason is Refusal.LOAD_ERROR


@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("bfloat16", 2), ("float16", 2), ("int8", 1.1)])
def test_weights_are_counted_in_the_number_type_they_are_loaded_to(dtype, width):
    found = forecast(FACTS_8B, LLAMA, Head.TOKENS, dtype=dtype, device="cuda", tokens=8_192, items=64)
    assert found.weights_bytes == round(8_030_000_000 * width)


def test_the_key_value_cache_of_a_causal_model():
    found = forecast(FACTS_8B, LLAMA, Head.TOKENS, dtype="bfloat16", device="cuda", tokens=8_192, items=64)
    # Llama 3 8B: 2 (keys, values) x 32 layers x 8 heads x 128 x 2 bytes = 128 KiB a token.
    assert found.cache_bytes == 8_192 * 131_072
    assert forecast(FACTS_8B, LLAMA, Head.VECTORS, dtype="bfloat16", device="cuda", tokens=8, items=1).cache_bytes == 0


def test_more_tokens_take_more_and_loading_does_not_add_to_computing():
    one, ten = (
        forecast(FACTS_8B, LLAMA, Head.TOKENS, dtype="bfloat16", device="cpu", tokens=n, items=1)
        for n in (1_000, 10_000)
    )
    assert ten.activations_bytes > 9 * one.activations_bytes
    assert Forecast(100, 30, 10, 5, 1).total_bytes == 131
    assert Forecast(100, 3, 10, 5, 1).total_bytes == 116


def test_sizes_are_found_by_any_of_their_names(tmp_path):
    folder = tiny_bert(tmp_path)
    shape = shape_of(json.loads((folder / "config.json").read_text()))
    assert (shape.hidden, shape.layers, shape.head_width, shape.vocabulary) == (HIDDEN, 1, HIDDEN // 2, len(WORDS))
    gpt2 = shape_of({"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257})
    assert (gpt2.hidden, gpt2.intermediate, gpt2.layers, gpt2.kv_heads, gpt2.head_width) == (768, 3072, 12, 12, 64)
    clip = shape_of({"text_config": {"hidden_size": 512}, "vision_config": {"hidden_size": 768}, "hidden_size": None})
    assert clip.hidden == 768
    nothing = shape_of({"hidden_size": "many", "num_attention_heads": True, "vocab_size": -1})
    assert (nothing.hidden, nothing.heads, nothing.vocabulary, nothing.head_width) == (0, 0, 0, 0)
    assert POSITIONS == 32


def test_a_shortage_is_told_with_both_figures():
    wanted = Forecast(16_000_000_000, 0, 1_000_000_000, 2_000_000_000, 500_000_000)
    assert shortage(wanted, 19_500_000_000) is None
    why = shortage(wanted, 19_499_999_999)
    assert why is not None
    assert "19.50 GB" in why
    assert "weights 16.00" in why

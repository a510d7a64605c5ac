"""The engine on the real weights: equal to Transformers' own model, whatever the company in the batch."""

import numpy as np
import pytest
import torch

from inference_workers.bert import is_plain_bert
from inference_workers.engine import TorchEngine, _load_encoder, _pool, _sorted, _TransformersEncoder, load_engine
from inference_workers.ports import DeviceLost, EngineError, Item, NonFiniteOutput, OutOfMemory
from inference_workers.registry import Pooling
from inference_workers.spec import WorkerSettings
from inference_workers.tokenise import Tokeniser
from infra.settings import load
from tests.parts import default_model

TEXTS = [
    "red shoes",
    "",
    "🦄",
    "women's waterproof hiking boots size 38 wide fit",
    "tv",
    "ein Sofa für das Wohnzimmer",
    " ".join(["a long description of a very comfortable armchair"] * 40),
]


@pytest.fixture(scope="module")
def model():
    return default_model()


@pytest.fixture(scope="module")
def engine(model):
    return load_engine(load(WorkerSettings, dtype="float32", device="cpu"), model)


@pytest.fixture(scope="module")
def sequences(model):
    tokeniser = Tokeniser(model.path, tokens_max=model.tokens_max, text_bytes_max=8_192)
    return [Item(one.ids, b"", cost=len(one.ids)) for one in tokeniser.tokenise(TEXTS)]


def cosines(left, right):
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


def test_it_equals_transformers_one_by_one(model, engine, sequences):
    from transformers import AutoModel

    reference = AutoModel.from_pretrained(str(model.path), local_files_only=True, dtype=torch.float32).eval()
    expected, norms = [], []
    with torch.inference_mode():
        for ids in (one.ids for one in sequences):
            mean = reference(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)
            norms.append(float(mean.norm()))
            expected.append((mean / mean.norm()).numpy())
    found = engine.compute(sequences)
    assert cosines(found.rows, np.stack(expected)).min() >= 0.9999
    assert np.abs(found.rows - np.stack(expected)).max() < 1e-5
    assert np.allclose(found.norms, norms, rtol=1e-4)
    assert found.rows.dtype == np.dtype("<f4")
    assert found.tokens_computed == sum(one.cost for one in sequences), "no padding outside attention"


def test_other_architectures_take_the_padded_way_and_agree(model, engine, sequences):
    assert not is_plain_bert({**model.config, "model_type": "mpnet"})
    padded = TorchEngine(
        _TransformersEncoder(model.path, device="cpu", dtype=torch.float32),
        model.pooling,
        normalise=True,
        device="cpu",
        dtype="float32",
    )
    found = padded.compute(sequences)
    assert np.abs(found.rows - engine.compute(sequences).rows).max() < 1e-5
    assert found.tokens_computed == len(sequences) * max(one.cost for one in sequences)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_company_does_not_change_an_embedding(model, sequences, dtype):
    encoder = _load_encoder(model, "cpu", getattr(torch, dtype))
    engine = TorchEngine(encoder, model.pooling, normalise=True, device="cpu", dtype=dtype)
    together = engine.compute(sequences).rows
    alone = np.concatenate([engine.compute([one]).rows for one in sequences])
    backwards = engine.compute(sequences[::-1]).rows[::-1]
    least = 0.999999 if dtype == "float32" else 0.9995
    assert cosines(together, alone).min() >= least
    assert cosines(together, backwards).min() >= least


def test_bfloat16_means_the_same(model, engine, sequences):
    half = TorchEngine(
        _load_encoder(model, "cpu", torch.bfloat16), model.pooling, normalise=True, device="cpu", dtype="bfloat16"
    )
    assert cosines(half.compute(sequences).rows, engine.compute(sequences).rows).min() >= 0.999


class Says:
    """An encoder that gives what a test wants."""

    def __init__(self, answer):
        self.answer = answer

    def encode(self, sequences):
        if isinstance(self.answer, Exception):
            raise self.answer
        return torch.full((sum(map(len, sequences)), 4), self.answer), 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_an_error(value):
    engine = TorchEngine(Says(value), Pooling.MEAN, normalise=True, device="cpu", dtype="float32")
    with pytest.raises(NonFiniteOutput):
        engine.compute([Item([1, 2], b"", cost=2)])


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OutOfMemory),
        (RuntimeError("CUDA error: device-side assert triggered"), DeviceLost),
        (RuntimeError("shape mismatch"), EngineError),
    ],
)
def test_failures_are_sorted(error, fate):
    engine = TorchEngine(Says(error), Pooling.MEAN, normalise=True, device="cpu", dtype="float32")
    with pytest.raises(fate):
        engine.compute([Item([1, 2], b"", cost=2)])
    assert type(_sorted(error)) is fate


def test_pooling_is_what_the_model_says():
    states = torch.tensor([[1.0, 8.0], [3.0, -2.0], [5.0, 5.0]])
    assert _pool(states, [2, 1], Pooling.MEAN).tolist() == [[2, 3], [5, 5]]
    assert _pool(states, [2, 1], Pooling.CLS).tolist() == [[1, 8], [5, 5]]
    assert _pool(states - 10, [2, 1], Pooling.MAX).tolist() == [[-7, -2], [-5, -5]]

"""The encoder's layers as one program: the same bits as its own loop, which serves where there is none."""

import random

import pytest
import torch

from inference_workers.engines import scripted
from inference_workers.engines.bert import STEPWISE_TOKENS_MAX, BertEncoder
from inference_workers.engines.linear import PackedLinear
from inference_workers.engines.loading import weights_of
from inference_workers.engines.placement import Placement
from inference_workers.engines.places import GROUPS_MAX
from inference_workers.engines.staging import HostStaging
from tests.built_models import item
from tests.parts import default_model, missing

DTYPES = [torch.float32, torch.bfloat16]


def on_cpu(dtype):
    return Placement("cpu", dtype, False, False, HostStaging())


def encoder_of(dtype):
    model = default_model()
    found = BertEncoder(model.config, weights_of(model), on_cpu(dtype))
    if not isinstance(found._layers[0].qkv, PackedLinear):
        missing("a processor for which layers are packed")
    assert found._program is not None
    assert found._forward == found._scripted
    return found


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def encoder(request):
    return encoder_of(request.param)


def items(*lengths):
    chosen = random.Random(sum(lengths))
    return [item(*(chosen.randrange(1_000, 20_000) for _ in range(length))) for length in lengths]


BATCHES = {
    "one": items(5),
    "equal": items(6, 6, 6),
    "uneven": items(3, 9, 4, 12),
    "by length": items(*([4] * 6), *([7] * 3), 15, 16, 31, 32),
    "of too many lengths": items(*range(3, 3 + GROUPS_MAX + 1)),
    "long": items(STEPWISE_TOKENS_MAX, STEPWISE_TOKENS_MAX + 1, 3),
    "pairs": [item(5, 6, 7, 8, second=2), item(9, 10)],
}


@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_the_program_gives_the_bits_of_the_loop(encoder, batch, first_only):
    with torch.inference_mode():
        program = encoder.encode(batch, first_only=first_only)
        plain, encoder._forward = encoder._forward, encoder._all_layers
        loop = encoder.encode(batch, first_only=first_only)
        encoder._forward = plain
    assert torch.equal(program.states, loop.states)
    assert program.tokens_computed == loop.tokens_computed


def test_an_input_means_the_same_in_any_company(encoder):
    """Whether it attends alone, padded or with its equals, and with how many rows of nobody's behind it."""
    every = [one for batch in BATCHES.values() for one in batch]
    with torch.inference_mode():
        alone = {id(one): encoder.encode([one]).states.float() for one in every}
        for batch in (*BATCHES.values(), sorted(every, key=lambda one: len(one.ids))):
            together = encoder.encode(batch).states.split([len(one.ids) for one in batch])
            for one, states in zip(batch, together, strict=True):
                assert torch.cosine_similarity(alone[id(one)], states.float(), dim=-1).min() > 0.999


def test_layers_that_are_not_packed_are_computed_by_the_loop():
    place = Placement("cpu", torch.float32, True, False, HostStaging())
    model = default_model()
    assert BertEncoder(model.config, weights_of(model), place)._program is None


def test_without_torchscript_the_loop_serves(monkeypatch):
    def refuse(*_):
        raise RuntimeError("TorchScript is gone")

    monkeypatch.setattr(torch.jit, "script", refuse)
    scripted.program.cache_clear()
    try:
        model = default_model()
        encoder = BertEncoder(model.config, weights_of(model), on_cpu(torch.float32))
        assert encoder._program is None
        with torch.inference_mode():
            assert len(encoder.encode(BATCHES["uneven"]).lengths) == 4
    finally:
        scripted.program.cache_clear()

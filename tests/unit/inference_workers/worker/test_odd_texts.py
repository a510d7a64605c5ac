"""Ordinary and odd texts through a whole worker with the real model: the vectors are those of sentence-transformers.

Its vectors were recorded by `tests/golden/record_sentence_transformers.py`: the library is no dependency.
"""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from inference_workers.deployments.routing import RoutingTable, own_route
from inference_workers.loading.load import load_servable, real_outside
from inference_workers.loading.preflight import ModelWanted
from inference_workers.spec import WorkerSettings
from infra.settings import load
from schemas.base import VALUE_BYTES_MAX
from schemas.predictions import InferenceAnswered
from schemas.vectors import decode_vector
from tests.parts import default_model
from tests.unit.inference_workers.stand_ins import World

ROOT = Path(__file__).resolve().parents[4]
RECORDED = json.loads((ROOT / "tests/golden/sentence_transformers.json").read_text())
TEXTS, VECTORS = RECORDED["texts"], {name: np.array(decode_vector(one)) for name, one in RECORDED["vectors"].items()}
NAMES = sorted(TEXTS)


@pytest.fixture(scope="module")
def real():
    default_model()
    settings = load(WorkerSettings, device="cpu", dtype="float32")
    return load_servable(ModelWanted.of_settings(settings), settings, real_outside()).servable


def answers_of(real, requests):
    """{offset: answer} of these inputs, asked of one worker together."""
    world = World()
    world.admission.table = RoutingTable(own_route(real))
    for one in requests:
        world.ask(json.dumps({"input": one}))
    world.run()
    found = {message.request.offset: message for _, message in world.predictions()}
    assert {type(one) for one in found.values()} == {InferenceAnswered}
    assert len(found) == len(requests)
    return found


def vectors_of(answer):
    return [np.array(decode_vector(one.vector)) for one in answer.outputs]


@pytest.mark.parametrize("seed", range(3))
def test_vectors_are_those_of_sentence_transformers_whatever_the_company(real, seed):
    names = random.Random(seed).sample(NAMES, len(NAMES))
    cut = random.Random(seed + 100).randrange(1, len(names))
    groups = [[name] for name in names[:cut]] + [names[cut:]]  # alone in a request, and together in one
    found = answers_of(real, [[TEXTS[name] for name in group] for group in groups])
    for offset, group in enumerate(groups):
        for name, vector in zip(group, vectors_of(found[offset]), strict=True):
            assert vector @ VECTORS[name] >= 0.9999, name
            assert np.abs(vector - VECTORS[name]).max() < 1e-4, name


def test_the_recorded_texts_are_told_apart():
    """The comparison above could fail: other texts have other vectors."""
    for one in ("short", "emoji", "German", "more than 512 tokens"):
        assert max(VECTORS[one] @ VECTORS[name] for name in NAMES if name != one) < 0.99


def test_a_text_of_a_megabyte_is_cut_and_answered_as_its_beginning(real):
    words = "red shoes for a long walk "
    text = words * ((VALUE_BYTES_MAX - 100) // len(words))
    assert len(text) > 1_000_000
    found = answers_of(real, [text, words * 200, "red shoes"])
    assert [found[offset].truncated for offset in range(3)] == [True, True, False]
    [long], [beginning] = vectors_of(found[0]), vectors_of(found[1])
    assert long @ beginning >= 0.9999

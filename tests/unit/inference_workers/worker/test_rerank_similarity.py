"""Rerank with vectors through a whole worker: its scores are those of sentence-transformers' `similarity`.

They were recorded by `tests/golden/record_sentence_transformers.py`: the library is no dependency.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from inference_workers.deployments.routing import RoutingTable, own_route
from inference_workers.loading.load import load_servable, real_outside
from inference_workers.loading.preflight import ModelWanted
from schemas.predictions import InferenceAnswered
from tests.built_models import settings_of
from tests.golden.record_sentence_transformers import ITEMS, QUERY, SIMILARITIES, compared_by
from tests.unit.inference_workers.stand_ins import World

RECORDED = json.loads((Path(__file__).resolve().parents[4] / "tests/golden/sentence_transformers.json").read_text())
SCORES = {(one["by"], one["normalise"]): one["scores"] for one in RECORDED["scores"]}


def answers_of(folder, requests):
    settings = settings_of(model=str(folder), model_name="tiny", version="1")
    servable = load_servable(ModelWanted.of_settings(settings), settings, real_outside()).servable
    world = World()
    world.admission.table = RoutingTable(own_route(servable))
    for one in requests:
        world.ask(json.dumps(one))
    world.run()
    found = {message.request.offset: message for _, message in world.predictions()}
    assert {type(one) for one in found.values()} == {InferenceAnswered}
    return [found[offset].outputs for offset in range(len(requests))]


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("said", [None, *SIMILARITIES])
def test_scores_are_those_of_sentence_transformers(tmp_path, said, normalise):
    folder = compared_by(tmp_path, said, normalise=normalise)
    [vectors] = answers_of(folder, [{"input": ITEMS}])
    ready_made = [{"embedding": one.vector} for one in vectors]
    asked = [{"task": "rerank", "query": QUERY, "input": items} for items in (ITEMS, ready_made)]
    single = [{"task": "rerank", "query": QUERY, "input": [one]} for one in ITEMS]
    expected = SCORES[said or "cosine", normalise]
    together, given, *alone = answers_of(folder, asked + single)
    for outputs in (together, given):
        assert [expected[one.index] for one in outputs] == sorted(expected, reverse=True), "best first"
        assert [one.score for one in outputs] == pytest.approx(sorted(expected, reverse=True), rel=1e-5, abs=2e-5)
    assert [one.score for [one] in alone] == pytest.approx(expected, rel=1e-5, abs=2e-5)


def test_the_recorded_scores_are_told_apart():
    """The comparison above could fail: each similarity has its own scores, and the order is not always the same."""
    orders = {tuple(np.argsort(scores)) for scores in SCORES.values()}
    assert len(orders) > 2
    for way in SIMILARITIES:
        for other in SIMILARITIES:
            if way != other:
                assert np.abs(np.subtract(SCORES[way, False], SCORES[other, False])).max() > 0.1

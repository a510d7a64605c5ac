"""Golden samples: how far off an answer may be, by what it is; recorded, written, found, compared."""

import json

import numpy as np
import pytest

from inference_workers.golden import Golden, Sample, Tolerance, golden_for, judge, read_golden, write_golden
from inference_workers.golden.compare import WORST, deviation_of
from inference_workers.models.registry import find_model
from inference_workers.models.verdicts import ModelRefused, Refusal
from schemas.predictions import Classification, Embedding, EmbeddingNumbers, Generated, LabelProbability, Ranked
from schemas.requests import InferenceRequested
from schemas.vectors import encode_vector
from tests.parts import default_model
from tests.tiny_models import tiny_bert

TOLERANCE = Tolerance(vector=0.01, score=0.05)


def vector(*numbers):
    return Embedding(vector=encode_vector(np.array(numbers, "<f4").tobytes()), dimension=len(numbers))


def labels(**probabilities):
    return Classification(labels=[LabelProbability(label=n, probability=p) for n, p in probabilities.items()])


def ranking(*scores):
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return [Ranked(index=i, score=scores[i]) for i in order]


def text(words):
    return Generated(text=words, tokens=2, finish_reason="stop")


@pytest.mark.parametrize(
    ("expected", "found", "value", "passed"),
    [
        ([vector(1, 0)], [vector(1, 0)], 0.0, True),
        ([vector(1, 0)], [vector(2, 0)], 0.0, True),
        ([vector(1, 0)], [EmbeddingNumbers(numbers=[1.0, 0.1])], 0.004963, True),
        ([vector(1, 0)], [vector(1, 0.2)], 0.019419, False),
        ([vector(1, 0)], [vector(-1, 0)], 2.0, False),
        ([vector(1, 0)], [vector(1, 0, 0)], WORST, False),
        ([vector(1, 0), vector(0, 1)], [vector(1, 0)], WORST, False),
        ([vector(1, 0), vector(0, 1)], [vector(0, 1), vector(1, 0)], 1.0, False),
        ([labels(a=0.9, b=0.1)], [labels(a=0.86, b=0.14)], 0.04, True),
        ([labels(a=0.9, b=0.1)], [labels(a=0.84, b=0.16)], 0.06, False),
        ([labels(a=0.9, b=0.1)], [labels(c=0.9, b=0.1)], WORST, False),
        (ranking(0.9, 0.5, 0.1), ranking(0.88, 0.52, 0.1), 0.02, True),
        (ranking(0.9, 0.5, 0.1), ranking(0.5, 0.9, 0.1), 0.4, False),
        (ranking(0.9, 0.5, 0.1)[:1], ranking(0.9, 0.5, 0.1), 0.0, True),
        (ranking(0.9, 0.5, 0.1), ranking(0.9, 0.5), WORST, False),
        (ranking(0.51, 0.5), ranking(0.5, 0.51), 0.01, True),
        (ranking(80.0, -40.0), ranking(78.0, -41.0), 0.025, True),
        (ranking(80.0, -40.0), ranking(80.0, -44.0), 0.1, False),
        ([text("red shoes")], [text("red shoes")], 0.0, True),
        ([text("red shoes")], [text("red shoe")], 1.0, False),
        ([text("red shoes")], [vector(1, 0)], WORST, False),
    ],
)
def test_deviations_by_measure(expected, found, value, passed):
    deviation = deviation_of(expected, found, TOLERANCE)
    assert deviation.value == pytest.approx(value, abs=1e-5)
    assert deviation.passed is passed


def test_numbers_that_are_none_do_not_pass():
    deviation = deviation_of([vector(1, 0)], [vector(float("nan"), 0)], TOLERANCE)
    assert not deviation.passed
    golden = Golden(samples=[sample("a", vector(1, 0))])
    result, _ = judge(golden, [[vector(float("nan"), 0)]])
    assert (result.passed, result.worst) == (False, 1e12)


def test_vectors_of_length_0_are_equal_to_each_other_alone():
    assert deviation_of([vector(0, 0)], [vector(0, 0)], TOLERANCE).value == 0
    assert deviation_of([vector(0, 0)], [vector(0, 1)], TOLERANCE).value == 1


def sample(words, *outputs):
    return Sample(request=InferenceRequested(input=words), outputs=list(outputs))


def test_the_worst_sample_is_told_in_the_measure_it_failed():
    golden = Golden(
        tolerance=TOLERANCE,
        samples=[sample("red", vector(1, 0)), sample("blue", labels(a=1.0)), sample("tv", vector(0, 1))],
    )
    good = [[vector(1, 0.01)], [labels(a=0.99)], [vector(0, 1)]]
    result, why = judge(golden, good)
    assert (result.samples, result.passed, why) == (3, True, "")
    assert (result.worst, result.tolerance) == (pytest.approx(0.01), 0.05)
    result, why = judge(golden, [good[0], [labels(a=0.5)], [vector(1, 1)]])
    assert not result.passed
    assert (result.worst, result.tolerance) == (pytest.approx(0.2929, abs=1e-4), 0.01)
    assert "2 of 3" in why
    assert '"tv"' in why
    assert "cosine 0.7071" in why


def test_a_file_is_written_and_read_again(tmp_path):
    request = InferenceRequested(input=["red shoes", "tv"], task="rerank", query="shoes")
    golden = Golden(
        made_with="m",
        digest="a" * 64,
        samples=[Sample(request=request, outputs=ranking(0.5, 0.25)), sample("a", text("b"))],
    )
    write_golden(tmp_path / "golden.json", golden)
    assert read_golden(tmp_path / "golden.json", "m") == golden
    assert "encoding_format" not in (tmp_path / "golden.json").read_text(), "defaults are left out"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("{", "JSON"),
        ("{}", "samples"),
        ('{"samples": []}', "samples"),
        ('{"samples": [{"request": {"input": ""}, "outputs": [{"vector": "not base64!", "dimension": 2}]}]}', "vector"),
        ('{"samples": [{"request": {"inputs": ""}, "outputs": [{"text": "", "tokens": 0}]}]}', "request"),
        ('{"format": "other", "samples": []}', "format"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, said, words):
    (tmp_path / "golden.json").write_text(said)
    with pytest.raises(ModelRefused, match=words) as refusal:
        read_golden(tmp_path / "golden.json", "m")
    assert refusal.value.reason is Refusal.GOLDEN


def test_which_file_counts(tmp_path):
    model = find_model(str(tiny_bert(tmp_path / "model")))
    assert golden_for(model, None) == (None, "")
    write_golden(model.path / "golden.json", Golden(samples=[sample("in the folder", text("x"))]))
    found, file = golden_for(model, None)
    assert found is not None
    assert found.samples[0].request.input == "in the folder"
    assert file == str(model.path / "golden.json")
    write_golden(tmp_path / "given.json", Golden(samples=[sample("given", text("x"))]))
    found, _ = golden_for(model, tmp_path / "given.json")
    assert found is not None
    assert found.samples[0].request.input == "given"
    with pytest.raises(ModelRefused, match=r"gone\.json cannot be read"):
        golden_for(model, tmp_path / "gone.json")


def test_samples_of_other_weights_are_refused(tmp_path):
    model = find_model(str(tiny_bert(tmp_path / "model")))
    said = {"digest": "0" * 64, "samples": [json.loads(sample("a", text("x")).model_dump_json(exclude_none=True))]}
    (model.path / "golden.json").write_text(json.dumps(said))
    with pytest.raises(ModelRefused, match="was made with weights 000000000000"):
        golden_for(model, None)


def test_samples_come_with_the_default_model():
    model = default_model()
    golden, file = golden_for(model, None)
    assert golden is not None
    assert golden.digest == model.digest
    assert file.endswith("all-MiniLM-L6-v2.json")
    assert {one.request.task for one in golden.samples} == {"embed", "rerank"}

"""Answers in words, for each task."""

import pytest

from infra.answer_text import output_lines, outputs_in_short
from schemas.base import Identity
from schemas.predictions import (
    Classification,
    Embedding,
    EmbeddingNumbers,
    Generated,
    InferenceAnswered,
    LabelProbability,
    ModelRef,
    Ranked,
    Timings,
)
from schemas.vectors import encode_vector

WIRE = encode_vector(b"\0\0\0\x3f" * 8)
LABELS = [LabelProbability(label=f"l{i}", probability=0.5 - i / 20) for i in range(7)]


def answer(*outputs, task="embed"):
    return InferenceAnswered(
        request=Identity(cluster_id="c", topic_id="t", partition=0, offset=1),
        request_id="",
        scenario="search",
        task=task,
        worker_id="w",
        model=ModelRef(name="m", version="1"),
        outputs=list(outputs),
        timings_ms=Timings(queue=0.0, tokenise=0.0, compute=0.0, total=0.0),
    )


@pytest.mark.parametrize(
    ("one", "line", "short"),
    [
        (answer(Embedding(vector=WIRE, dimension=8)), "vector   8 numbers: 0.5000, 0.5000", "1 x 8"),
        (answer(EmbeddingNumbers(numbers=[0.25, 1.0])), "vector   2 numbers: 0.2500, 1.0000", "1 x 2"),
        (
            answer(Ranked(index=3, score=0.5), task="rerank"),
            "rank 1   item 3, score 0.5000",
            "1 ranked, first 3 (0.500)",
        ),
        (answer(Classification(labels=LABELS), task="classify"), "labels   l0 0.5000, l1 0.4500", "l0 0.500"),
        (
            answer(Generated(text="a b", tokens=2, finish_reason="stop"), task="generate"),
            "text     a b (2 tokens, stop)",
            "2 tokens",
        ),
    ],
)
def test_each_kind_of_output_has_its_words(one, line, short):
    assert output_lines(one)[0].startswith(line)
    assert outputs_in_short(one).startswith(short)


def test_more_labels_than_are_shown_are_hinted_at():
    assert output_lines(answer(Classification(labels=LABELS), task="classify"))[0].endswith(", ...")


def test_a_vector_that_is_none_is_said():
    broken = answer(Embedding(vector="AAAA", dimension=1))
    assert output_lines(broken)[0].startswith("vector   bad_value")

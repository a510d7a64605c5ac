"""What a load test sends: valid requests of the shape that was asked for, the same for the same seed."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import load_requests
from benchmarks.load_requests import (
    TEXTS_MAX,
    LoadShape,
    Shares,
    mean_inputs,
    parse_items,
    parse_shares,
    parse_words,
    requests_of,
    requests_of_file,
)
from producers.client import REQUEST_BYTES_MAX
from schemas.requests import InferenceRequested, TypedInput

TEXTS = ("red shoes", "blue hat", "sofa", "a lamp for the desk")


def inputs_of(request):
    return request["input"] if isinstance(request["input"], list) else [request["input"]]


@given(
    task=st.sampled_from(["embed", "rerank", "classify", "generate"]),
    items=st.tuples(st.integers(1, 64), st.integers(1, 64)).map(lambda pair: tuple(sorted(pair))),
    words=st.none() | st.just(parse_words("1-4=0.9,30")),
    seed=st.integers(0, 2**31),
)
def test_every_request_is_one_that_a_worker_takes(task, items, words, seed):
    shape = LoadShape(task, parse_shares("search=3,ads=1"), items, words, 8)
    made = requests_of(shape, TEXTS, 20, seed)
    assert made == requests_of(shape, TEXTS, 20, seed)
    assert len(made) == 20
    for request in made:
        taken = InferenceRequested.model_validate(request)
        assert (taken.task, taken.scenario in ("search", "ads")) == (task, True)
        assert items[0] <= len(inputs_of(request)) <= items[1]
        for text in inputs_of(request):
            assert text in TEXTS if words is None else len(text.split()) in (1, 2, 3, 4, 30)


def test_shares_are_kept():
    made = requests_of(LoadShape(scenarios=parse_shares("search=8,ads=2")), TEXTS, 10_000, 1)
    counts = Counter(request["scenario"] for request in made)
    assert counts["ads"] / 10_000 == pytest.approx(0.2, abs=0.02)
    long = requests_of(LoadShape(words=parse_words("1-3=0.9,100=0.1")), TEXTS, 5_000, 1)
    assert sum(len(request["input"].split()) == 100 for request in long) / 5_000 == pytest.approx(0.1, abs=0.02)


def test_many_items_a_request_make_fewer_requests():
    made = requests_of(LoadShape(items=(64, 64)), TEXTS, 100_000, 1)
    assert len(made) == TEXTS_MAX // 64
    assert mean_inputs(made) == 64


def test_what_a_topic_does_not_take_is_refused_before_anything_is_sent(tmp_path):
    with pytest.raises(ValueError, match=r"a request of that shape: \d+ bytes as JSON, at most \d+ are taken"):
        requests_of(LoadShape(items=(64, 64), words=parse_words("20000")), TEXTS, 2, 1)
    file = tmp_path / "large.jsonl"
    file.write_text(json.dumps({"input": "a" * (REQUEST_BYTES_MAX - 40), "scenario": "search"}))
    with pytest.raises(ValueError, match=r"line 1: \d+ bytes"):
        requests_of_file(file, None, 1)


def test_long_texts_make_fewer_requests(monkeypatch):
    monkeypatch.setattr(load_requests, "CHARACTERS_MAX", 10_000)
    made = requests_of(LoadShape(words=parse_words("100")), TEXTS, 1_000, 1)
    assert 10_000 < sum(len(request["input"]) for request in made) < 12_000


def test_a_file_is_sent_as_it_is_with_the_scenarios_asked_for(tmp_path):
    lines = [
        {"input": ["a", "b"], "scenario": "ads", "timeout_ms": 500},
        {"input": {"text": "a", "text_pair": "b"}, "task": "classify", "newer_field": 1},
        {"input": "once", "task": "generate", "generation": {"max_tokens": 3}},
    ]
    path = tmp_path / "requests.jsonl"
    path.write_text("\n\n".join(map(json.dumps, lines)) + "\n")
    first, second, third = requests_of_file(path, None, 1)
    assert first == {"input": ["a", "b"], "scenario": "ads", "timeout_ms": 500}
    assert second == {"input": TypedInput(text="a", text_pair="b"), "task": "classify"}
    assert third["generation"].max_tokens == 3
    assert {one["scenario"] for one in requests_of_file(path, Shares(("x",), (1.0,)), 1)} == {"x"}
    assert mean_inputs([first, second, third]) == pytest.approx(4 / 3)


@pytest.mark.parametrize("text", ["", "a=x", "a=1,a=2", "a=-1", "=1", "a=inf", "a=nan", "a,,b"])
def test_shares_that_are_none_are_refused(text):
    with pytest.raises(ValueError):
        parse_shares(text)


@pytest.mark.parametrize("text", ["0", "65", "3-2", "1-", "-3", "a", "1-2-3", "1.5"])
def test_counts_that_are_none_are_refused(text):
    with pytest.raises(ValueError):
        parse_items(text)

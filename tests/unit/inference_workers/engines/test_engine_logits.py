"""Classifiers and cross-encoders: equal to Transformers' own, texts and pairs, packed or padded."""

import json

import numpy as np
import pytest
import torch

from inference_workers.engines.loading import load_engine
from inference_workers.engines.logits import BertClassifier, LogitEngine
from inference_workers.models.tokenise import Tokeniser
from inference_workers.ports import Head, NonFiniteOutput
from inference_workers.tasks.classify import probabilities_of
from tests.built_models import CountedCopies, build, item, settings_of

LABELS = {0: "shoes", 1: "furniture", 2: "lights"}
TEXTS = ["red shoe for kids", "sofa", "blue lamp table chair", "unheard of", ""]
PAIRS = [("red shoe", "boot for men"), ("sofa", "sofa"), ("lamp", ""), ("green chair table", "women")]


def tokens_of(model, texts):
    found = Tokeniser(model.path, tokens_max=model.tokens_max, text_bytes_max=1_000).tokenise(texts)
    return [item(*one.ids, second=one.second) for one in found]


def pipeline_of(model):
    from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast, pipeline

    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    tokeniser = PreTrainedTokenizerFast(tokenizer_file=str(model.path / "tokenizer.json"), **names)
    if model.config["model_type"] != "bert":
        tokeniser.model_input_names = ["input_ids", "attention_mask"]
    classifier = AutoModelForSequenceClassification.from_pretrained(str(model.path))
    return pipeline("text-classification", model=classifier, tokenizer=tokeniser, top_k=None)


@pytest.mark.parametrize("kind", ["BertForSequenceClassification", "DistilBertForSequenceClassification"])
@pytest.mark.parametrize(
    ("labels", "problem"),
    [(LABELS, "single_label_classification"), (LABELS, "multi_label_classification"), ({0: "relevance"}, None)],
)
def test_labels_and_probabilities_are_those_of_transformers_pipeline(tmp_path, kind, labels, problem):
    model = build(tmp_path, kind, id2label=labels, problem_type=problem)
    loaded = load_engine(settings_of(), model)
    assert (loaded.head, list(loaded.labels)) == (Head.LOGITS, list(labels.values()))
    assert loaded.multi_label is (problem == "multi_label_classification" or len(labels) == 1)
    rows = loaded.engine.compute(tokens_of(model, TEXTS)).rows
    for told, row in zip(pipeline_of(model)(TEXTS), rows, strict=True):
        expected = {one["label"]: one["score"] for one in told}
        found = probabilities_of(row, multi_label=loaded.multi_label)
        assert found == pytest.approx([expected[name] for name in loaded.labels], abs=1e-5)


@pytest.mark.parametrize("kind", ["BertForSequenceClassification", "RobertaForSequenceClassification"])
@pytest.mark.parametrize("types", [1, 2])
def test_a_cross_encoder_scores_pairs_as_transformers_does(tmp_path, kind, types):
    model = build(tmp_path, kind, num_labels=1, type_vocab_size=types)
    loaded = load_engine(settings_of(), model)
    items = tokens_of(model, PAIRS)
    assert all(one.second is not None for one in items)
    found = loaded.engine.compute(items)
    classifier = pipeline_of(model).model
    for one, score in zip(items, found.rows[:, 0], strict=True):
        seconds = torch.tensor([[int(at >= one.second) for at in range(len(one.ids))]])
        given = {"token_type_ids": seconds} if types > 1 else {}
        with torch.inference_mode():
            assert float(classifier(torch.tensor([one.ids]), **given).logits) == pytest.approx(float(score), abs=2e-5)
    assert found.norms.tolist() == [0.0] * len(PAIRS)


def test_the_second_text_is_told_apart(tmp_path):
    model = build(tmp_path, "BertForSequenceClassification", num_labels=1)
    engine = load_engine(settings_of(), model).engine
    same = (5, 6, 7, 8)
    one, two, none = engine.compute([item(*same, second=1), item(*same, second=3), item(*same)]).rows[:, 0]
    assert len({round(float(score), 4) for score in (one, two, none)}) == 3


def test_a_decoder_without_padding_computes_each_input_alone(tmp_path):
    model = build(tmp_path, "GPT2ForSequenceClassification", num_labels=3)
    engine = load_engine(settings_of(), model).engine
    items = [item(5, 6, 7), item(8), item(9, 10)]
    together = engine.compute(items)
    alone = np.concatenate([engine.compute([one]).rows for one in items])
    assert np.abs(together.rows - alone).max() < 1e-6
    assert together.tokens_computed == 6


def test_labels_without_names_are_called_as_transformers_calls_them(tmp_path):
    model = build(tmp_path, "BertForSequenceClassification")
    assert "id2label" not in json.loads((tmp_path / "config.json").read_text())
    assert list(load_engine(settings_of(), model).labels) == ["LABEL_0", "LABEL_1"]


@pytest.mark.parametrize("kind", ["BertForSequenceClassification", "RobertaForSequenceClassification"])
def test_logits_that_are_no_numbers_are_an_error(tmp_path, kind):
    with pytest.raises(NonFiniteOutput):
        load_engine(settings_of(), build(tmp_path, kind, poison=True))


def test_a_pass_is_one_copy_to_the_device(tmp_path):
    from inference_workers.engines.loading import weights_of

    model, counted = build(tmp_path, "BertForSequenceClassification"), CountedCopies()
    engine = LogitEngine(BertClassifier(model.config, weights_of(model), counted.placement), counted.placement)
    items = tokens_of(model, PAIRS)
    assert (
        np.abs(engine.compute(items).rows - load_engine(settings_of(), model).engine.compute(items).rows).max() < 1e-5
    )
    assert counted.copies == 1

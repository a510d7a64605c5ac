"""The tasks through a whole worker: JSON in, JSON out, equal to Transformers' own pipelines, embed to its states.

The texts are odd on purpose, and asked for in any company: alone in a request or with others, in any batch.
"""

import functools
import itertools
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_workers.deployments.routing import RoutingTable, own_route
from inference_workers.loading.load import load_servable, real_outside
from inference_workers.loading.preflight import ModelWanted
from inference_workers.models.servable import Servable
from schemas.predictions import InferenceAnswered, RequestShed
from schemas.vectors import decode_vector
from tests.built_models import build, byte_tokeniser, settings_of
from tests.tiny_models import with_modules
from tests.unit.inference_workers.stand_ins import World

TOKENS_MAX = 600
"""Most tokens of each model here, special ones included."""
TEXTS = [
    "red shoes",
    "",
    " ",
    "a",
    "Größe 42, süße Schuhe für Kätzchen",
    "红色的鞋子",
    "أحذية حمراء",
    "👟👩‍👩‍👧‍👦🏳️‍🌈 shoes \U0001f9a4",
    "e\u0301 \u200b\ufeff\u202e\u0000 x",
    "tabs\tand\nlines\r\n",
    "shoe " * 110,  # 550 tokens
    "shoe " * 400,  # more than any model here reads
]
LABELS = {0: "bad", 1: "fair", 2: "good", 3: "best"}
CLASSIFIERS = {
    "plain BERT": ("BertForSequenceClassification", {"id2label": LABELS}),
    "plain BERT, several labels at once": (
        "BertForSequenceClassification",
        {"id2label": LABELS, "problem_type": "multi_label_classification"},
    ),
    "RoBERTa": (
        "RobertaForSequenceClassification",
        {"id2label": LABELS, "type_vocab_size": 1, "max_position_embeddings": TOKENS_MAX + 2, "pad_token_id": 1},
    ),
    "DistilBERT": ("DistilBertForSequenceClassification", {"id2label": LABELS}),
    "Llama": ("LlamaForSequenceClassification", {"id2label": LABELS, "pad_token_id": 0}),
    "Llama without padding": ("LlamaForSequenceClassification", {"id2label": LABELS}),
}
RANKERS = {
    "plain BERT": ("BertForSequenceClassification", {"num_labels": 1}),
    "DistilBERT": ("DistilBertForSequenceClassification", {"num_labels": 1}),
}
WRITERS = {
    "GPT-2": ("GPT2LMHeadModel", {"n_positions": TOKENS_MAX}),
    "Llama": ("LlamaForCausalLM", {}),
    "Llama with rules": ("LlamaForCausalLM", {"rules": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2}}),
}
NEW_TOKENS = 8
ROUNDING = 2e-5
"""Largest difference of a probability: float32, summed in another order."""


@dataclass(eq=False)
class Both:
    """A model as a worker serves it, and as Transformers' pipeline does."""

    servable: Servable
    pipeline: Any

    def answers(self, requests):
        """The answers of one worker that was asked all of it together, in order."""
        world = World()
        world.admission.table = RoutingTable(own_route(self.servable))
        for one in requests:
            world.ask(json.dumps(one))
        world.run()
        found = {message.request.offset: message for _, message in world.predictions()}
        assert len(found) == len(requests)
        return [found[offset] for offset in range(len(requests))]

    def labels(self, text, pair=None):
        """{label: probability} of the pipeline, asked for this alone."""
        asked = text if pair is None else {"text": text, "text_pair": pair}
        found = self.pipeline(asked, top_k=None, truncation=True)
        return {one["label"]: one["score"] for one in found}

    def text(self, prompt):
        """What the pipeline generates, greedy, asked for this alone."""
        [answer] = self.pipeline(prompt, max_new_tokens=NEW_TOKENS, do_sample=False, return_full_text=False)
        return answer["generated_text"]

    def relevance(self, query, text):
        """What sentence-transformers' CrossEncoder gives for one label: the logistic function of the pair's logit.

        Not by the pipeline, which leaves an empty second text out; a CrossEncoder's tokeniser is given lists.
        """
        given = self.pipeline.tokenizer([query], [text], truncation=True, return_tensors="pt")
        with torch.inference_mode():
            return float(self.pipeline.model(**given).logits[0, 0].sigmoid())


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What gives `Both` of a task and a kind of its table; each is made once."""
    return functools.cache(lambda task, kind: made(tmp_path_factory.mktemp("equal"), task, kind))


def made(folder, task, kind):
    """The model `kind` of the table for this task, in that folder."""
    import transformers

    name, changed = {"classify": CLASSIFIERS, "rerank": RANKERS, "generate": WRITERS}[task][kind]
    changed = {"vocab_size": 260, "max_position_embeddings": TOKENS_MAX, **changed}
    rules = changed.pop("rules", {})
    build(folder, name, **changed)
    byte_tokeniser().save(str(folder / "tokenizer.json"))
    if rules:
        path = folder / "generation_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | rules))
    names = ["input_ids", "attention_mask", *["token_type_ids"] * name.startswith("Bert")]
    tokeniser = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), model_max_length=TOKENS_MAX, model_input_names=names
    )
    what = "text-generation" if task == "generate" else "text-classification"
    pipeline = transformers.pipeline(what, model=str(folder), tokenizer=tokeniser)
    wanted = settings_of(model=str(folder), model_name="tiny", version="1")
    return Both(load_servable(ModelWanted.of_settings(wanted), wanted, real_outside()).servable, pipeline)


EMBEDDERS = {
    "BERT": ("BertModel", "mean", lambda states: states.mean(0)),
    "Llama": ("LlamaForCausalLM", "lasttoken", lambda states: states[-1]),
    "Qwen 3": ("Qwen3ForCausalLM", "lasttoken", lambda states: states[-1]),
}


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("kind", EMBEDDERS)
def test_embed_is_pooled_and_normalised_as_the_model_says(tmp_path, kind, normalise):
    """As sentence-transformers: decision 0026. Its `encode` pools the last states, and there is Normalize or not."""
    import transformers

    name, pooling, pooled = EMBEDDERS[kind]
    build(tmp_path, name, vocab_size=260, max_position_embeddings=TOKENS_MAX)
    byte_tokeniser().save(str(tmp_path / "tokenizer.json"))
    with_modules(tmp_path, {"pooling_mode": pooling}, {} if normalise else None)
    wanted = settings_of(model=str(tmp_path), model_name="tiny", version="1")
    model = Both(load_servable(ModelWanted.of_settings(wanted), wanted, real_outside()).servable, None)
    reference = transformers.AutoModel.from_pretrained(str(tmp_path)).eval()
    requests = [{"input": TEXTS, "encoding_format": "float"}, *({"input": text} for text in TEXTS)]
    together, *alone = outputs_of(model, requests)
    tokenised = model.servable.tokeniser.tokenise(TEXTS)
    for one, output, [single] in zip(tokenised, together, alone, strict=True):
        with torch.inference_mode():
            expected = pooled(reference(torch.tensor([one.ids])).last_hidden_state[0]).numpy()
        length = np.linalg.norm(expected)
        assert abs(length - 1) > 0.1, "else this test shows nothing"
        expected = expected / length if normalise else expected
        for vector in (output.numbers, decode_vector(single.vector)):
            assert np.abs(np.array(vector) - expected).max() < 1e-5 * length
            assert np.dot(vector, expected) / np.linalg.norm(vector) / np.linalg.norm(expected) >= 0.9999


def outputs_of(model, requests):
    answers = model.answers(requests)
    assert {type(one) for one in answers} == {InferenceAnswered}
    return [answer.outputs for answer in answers]


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_classify_is_text_classification(both, kind):
    model = both("classify", kind)
    pairs = [{"text": one, "text_pair": other} for one, other in zip(TEXTS, TEXTS[::-1], strict=True)]
    requests = [{"task": "classify", "input": [one]} for one in TEXTS]
    requests += [{"task": "classify", "input": TEXTS[3:9]}, {"task": "classify", "input": pairs}]
    *alone, together, paired = outputs_of(model, requests)
    for text, [output] in zip(TEXTS, alone, strict=True):
        check_labels(output, model.labels(text))
    for text, output in zip(TEXTS[3:9], together, strict=True):
        check_labels(output, model.labels(text))
    for pair, output in zip(pairs, paired, strict=True):
        check_labels(output, model.labels(pair["text"], pair["text_pair"]))


def check_labels(output, expected):
    assert {one.label: one.probability for one in output.labels} == pytest.approx(expected, abs=ROUNDING)
    probabilities = [one.probability for one in output.labels]
    assert probabilities == sorted(probabilities, reverse=True)


def test_texts_are_told_apart(both):
    """The comparison above could fail: other texts have other probabilities."""
    for kind in CLASSIFIERS:
        found = [both("classify", kind).labels(text) for text in ("red shoes", "红色的鞋子", "a", "shoe " * 110)]
        for one, other in itertools.pairwise(found):
            assert max(abs(one[label] - other[label]) for label in one) > 10 * ROUNDING, kind


@pytest.mark.parametrize("kind", RANKERS)
def test_rerank_is_a_cross_encoders_logits(both, kind):
    model = both("rerank", kind)
    requests = [{"task": "rerank", "query": query, "input": TEXTS} for query in TEXTS]
    for query, ranked in zip(TEXTS, outputs_of(model, requests), strict=True):
        expected = {index: model.relevance(query, text) for index, text in enumerate(TEXTS)}
        assert {one.index: one.score for one in ranked} == pytest.approx(expected, abs=ROUNDING)
        given = [one.score for one in ranked]
        assert given == sorted(given, reverse=True)


@pytest.mark.parametrize("kind", WRITERS)
def test_generate_is_text_generation(both, kind):
    model = both("generate", kind)
    texts = TEXTS[:-1]
    requests = [{"task": "generate", "input": text, "generation": {"max_tokens": NEW_TOKENS}} for text in texts]
    requests.append({"task": "generate", "input": texts[2:8], "generation": {"max_tokens": NEW_TOKENS}})
    *alone, together = outputs_of(model, requests)
    for text, [output] in zip(texts, alone, strict=True):
        assert output.text == model.text(text), text
    assert [output.text for output in together] == [model.text(text) for text in texts[2:8]]


def test_a_prompt_that_leaves_no_room_is_shed_beside_one_that_is_answered(both):
    requests = [{"task": "generate", "input": text, "generation": {"max_tokens": 100}} for text in (TEXTS[-2], "a")]
    long, short = both("generate", "Llama").answers(requests)
    assert (type(long), long.reason) == (RequestShed, "over_limit")
    assert isinstance(short, InferenceAnswered)


ANY_TEXT = st.sampled_from(TEXTS) | st.text(st.characters(codec="utf-8"), max_size=60)


@st.composite
def companies(draw):
    """Texts, cut into requests of one to many."""
    texts = draw(st.lists(ANY_TEXT, min_size=1, max_size=12))
    cuts = sorted(draw(st.sets(st.integers(1, len(texts)), max_size=6)) - {len(texts)})
    return [texts[start:end] for start, end in zip([0, *cuts], [*cuts, len(texts)], strict=True)]


@pytest.mark.parametrize("kind", ["plain BERT", "RoBERTa", "Llama"])
@settings(max_examples=25)
@given(groups=companies())
def test_probabilities_do_not_depend_on_the_company(both, kind, groups):
    model = both("classify", kind)
    found = outputs_of(model, [{"task": "classify", "input": group} for group in groups])
    for group, outputs in zip(groups, found, strict=True):
        for text, output in zip(group, outputs, strict=True):
            check_labels(output, model.labels(text))


@settings(max_examples=25)
@given(groups=companies(), queries=st.lists(ANY_TEXT, min_size=12, max_size=12))
def test_a_ranking_does_not_depend_on_the_company(both, groups, queries):
    model = both("rerank", "plain BERT")
    requests = [{"task": "rerank", "query": q, "input": group} for q, group in zip(queries, groups, strict=False)]
    for query, group, ranked in zip(queries, groups, outputs_of(model, requests), strict=False):
        for one in ranked:
            assert one.score == pytest.approx(model.relevance(query, group[one.index]), abs=ROUNDING)


@pytest.mark.parametrize("kind", ["GPT-2", "Llama with rules"])
@settings(max_examples=15)
@given(groups=companies())
def test_a_text_does_not_depend_on_the_company(both, kind, groups):
    model = both("generate", kind)
    groups = [[text for text in group if text != TEXTS[-1]] or ["a"] for group in groups]
    wanted = {"max_tokens": NEW_TOKENS}
    found = outputs_of(model, [{"task": "generate", "input": group, "generation": wanted} for group in groups])
    for group, outputs in zip(groups, found, strict=True):
        assert [one.text for one in outputs] == [model.text(text) for text in group]

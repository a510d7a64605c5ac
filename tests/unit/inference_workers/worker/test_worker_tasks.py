"""The four tasks through the worker's loop, with engines that give what a test wants."""

import json
import math

import numpy as np
import pytest

from inference_workers.ports import Forward, Head, Similarity, Tokens
from inference_workers.tasks.classify import probabilities_of
from inference_workers.tasks.rerank import probability_of, similarities
from schemas.predictions import InferenceAnswered, InferenceFailed, RequestShed
from schemas.topics import TELEMETRY
from schemas.vectors import decode_vector, encode_vector
from tests.unit.inference_workers.stand_ins import FakeEngine, World

RED, SHOES, BOOTS = 2417, 6007, 6879


class Logits(FakeEngine):
    """Logits that depend on the tokens: [tokens, ...] minus 3, `width` of them."""

    def __init__(self, width):
        super().__init__(head=Head.LOGITS)
        self.width, self.items = width, []

    def compute(self, items):
        self.items += items
        rows = np.array([[len(one.ids) - 3.0 - i for i in range(self.width)] for one in items], np.float32)
        return Forward(rows, np.zeros(len(items), np.float32), sum(one.cost for one in items))


class Writer(FakeEngine):
    """Generates its prompt backwards."""

    def __init__(self, reason="stop"):
        super().__init__(head=Head.TOKENS)
        self.reason, self.items = reason, []

    def compute(self, items):
        self.items += items
        rows = [Tokens(tuple(reversed(one.ids[1:-1])), self.reason, 0.5) for one in items]
        return Forward(rows, np.zeros(len(items), np.float32), sum(one.cost for one in items))


def answer_of(world, **request):
    world.ask(json.dumps(request))
    world.run()
    return world.predictions()[-1][1]


def test_numbers_instead_of_base64_when_asked_for():
    answer = answer_of(World(), input="red shoes", encoding_format="float")
    assert answer.outputs[0].numbers == [4.0, RED]


def test_ready_made_vectors_are_normalised_and_nothing_is_computed():
    world = World()
    wire = encode_vector(np.array([3.0, 4.0], "<f4").data)
    answer = answer_of(world, input=[{"embedding": wire}, {"embedding": [0.0, 0.0]}])
    assert [list(decode_vector(one.vector)) for one in answer.outputs] == [pytest.approx([0.6, 0.8]), [0.0, 0.0]]
    assert world.engine.calls == 0
    assert not answer.cached


def test_a_bi_encoder_ranks_by_cosine():
    world = World()
    answer = answer_of(world, task="rerank", query="red", input=["red shoes", "boots", {"embedding": [1.0, 0.0]}])
    given = [np.array([4.0, RED]), np.array([3.0, BOOTS]), np.array([1.0, 0.0])]
    expected = similarities(np.array([3.0, RED]), given, Similarity.COSINE)
    assert [one.index for one in answer.outputs] == sorted(range(3), key=lambda i: -expected[i])
    assert [one.score for one in answer.outputs] == sorted(expected, reverse=True)
    best = answer_of(world, task="rerank", query="red", input=["boots", "red shoes", "boots shoes"], top_n=1)
    assert [one.index for one in best.outputs] == [1], "no more than were asked for, the best"


@pytest.mark.parametrize(
    ("similarity", "scores", "confidence", "margin"),
    [
        (Similarity.COSINE, {1: 1.0, 0: 0.96, 2: 0.0}, 1.0, 0.04),
        (Similarity.DOT, {0: 120.0, 1: 5.0, 2: 0.0}, 0.0, 0.0),
        (Similarity.EUCLIDEAN, {1: -4.0, 2: -5.0, 0: -(410.0**0.5)}, 0.0, 0.0),
        (Similarity.MANHATTAN, {1: -5.6, 2: -7.0, 0: -28.0}, 0.0, 0.0),
    ],
)
def test_ready_made_vectors_are_compared_as_the_model_says(similarity, scores, confidence, margin):
    world = World(servable={"similarity": similarity})
    items = [{"embedding": one} for one in ([20.0, 15.0], [0.6, 0.8], [0.0, 0.0])]
    answer = answer_of(world, task="rerank", query={"embedding": [3.0, 4.0]}, input=items)
    assert {one.index: one.score for one in answer.outputs} == pytest.approx(scores, abs=1e-5)
    assert [one.index for one in answer.outputs] == list(scores), "best first"
    [record] = world.broker.of(TELEMETRY.name)
    rows = json.loads(record.value)["requests"]
    told = [rows[name] or [0.0] for name in ("confidence", "margin")]  # a column of zeros is left out
    assert told == [[pytest.approx(confidence, abs=1e-3)], [pytest.approx(margin, abs=1e-3)]]
    assert rows["output_norm"] == [pytest.approx((5 + 25 + 1 + 0) / 4)]


def test_an_embedded_ready_made_vector_has_length_1_whatever_it_is_compared_by():
    world = World(servable={"similarity": Similarity.DOT})
    answer = answer_of(world, input={"embedding": [3.0, 4.0]})
    assert list(decode_vector(answer.outputs[0].vector)) == pytest.approx([0.6, 0.8])


def test_vectors_of_another_dimension_fail_in_words():
    world = World()
    answer = answer_of(world, task="rerank", query="red", input=["shoes", {"embedding": [1.0]}])
    assert (type(answer), answer.error) == (InferenceFailed, "dimension_mismatch")
    assert world.outcomes()[0, 0] == ("failed", "dimension_mismatch")


def test_a_cross_encoder_ranks_pairs_by_probability():
    engine = Logits(1)
    world = World(engine, servable={"labels": ["LABEL_0"]})
    answer = answer_of(world, task="rerank", query="red", input=["shoes", "red boots shoes"])
    assert [one.index for one in answer.outputs] == [1, 0]
    assert [one.score for one in answer.outputs] == [probability_of(7 - 3.0), probability_of(5 - 3.0)]
    assert engine.items[0].ids == [101, RED, 102, SHOES, 102]
    assert engine.items[0].second == 3, "token types tell query and item apart"


def test_a_classifier_gives_labels_with_probabilities_and_how_sure_it_is():
    world = World(Logits(3), servable={"labels": ["a", "b", "c"]})
    answer = answer_of(world, task="classify", input=["red shoes", {"text": "red", "text_pair": "boots"}])
    assert [[one.label for one in output.labels] for output in answer.outputs] == [["a", "b", "c"]] * 2
    first = probabilities_of(np.array([1.0, 0.0, -1.0], np.float32), multi_label=False)
    assert [one.probability for one in answer.outputs[0].labels] == pytest.approx(first)
    [record] = world.broker.of(TELEMETRY.name)
    rows = json.loads(record.value)["requests"]
    entropy = -sum(p * math.log(p) for p in first) / math.log(3)
    assert rows["confidence"] == [pytest.approx(first[0], abs=1e-3)]
    assert rows["margin"] == [pytest.approx(first[0] - first[1], abs=1e-3)]
    assert rows["entropy"] == [pytest.approx(entropy, abs=1e-3)]


def sureness_of(world):
    """(confidence, margin, entropy) of the last request, as telemetry tells it; 0 for a column that is left out."""
    rows = json.loads(world.broker.of(TELEMETRY.name)[-1].value)["requests"]
    return tuple((rows[name] or [0])[-1] for name in ("confidence", "margin", "entropy"))


def test_of_several_inputs_telemetry_tells_how_sure_they_are_in_the_mean():
    world = World(Logits(2), servable={"labels": ["a", "b"], "multi_label": True})
    answer_of(world, task="classify", input=["red", "red shoes boots"])  # logits of 0 and -1, of 2 and 1
    best, second = [(probability_of(0.0) + probability_of(2.0)) / 2, (probability_of(-1.0) + probability_of(1.0)) / 2]
    confidence, margin, entropy = sureness_of(world)
    assert (confidence, margin) == (pytest.approx(best, abs=1e-3), pytest.approx(best - second, abs=1e-3))
    assert 0.9 < entropy < 1.0


def test_a_ranking_is_as_sure_as_its_best_score_and_how_far_the_second_is_behind():
    world = World(Logits(1), servable={"labels": ["LABEL_0"]})
    answer = answer_of(world, task="rerank", query="red", input=["shoes", "red boots shoes", "red boots"])
    best, second, _ = [one.score for one in answer.outputs]
    assert sureness_of(world) == (pytest.approx(best, abs=1e-3), pytest.approx(best - second, abs=1e-3), 0)
    answer_of(world, task="rerank", query="red", input=["red boots"])
    assert sureness_of(world) == (pytest.approx(second, abs=1e-3), 0, 0), "nothing is behind a single one"


def test_a_text_is_as_sure_as_its_tokens_are_likely():
    world = World(Writer())
    answer_of(world, task="generate", input="red shoes")
    assert sureness_of(world) == (0.5, 0, 0)


def test_of_many_labels_the_likeliest_hundred_are_told():
    names = [f"label {number}" for number in range(150)]
    [output] = answer_of(World(Logits(150), servable={"labels": names}), task="classify", input="red shoes").outputs
    assert [one.label for one in output.labels] == names[:100]


def test_labels_of_their_own_are_not_shared_out():
    world = World(Logits(2), servable={"labels": ["a", "b"], "multi_label": True})
    [output] = answer_of(world, task="classify", input="red shoes").outputs
    assert [one.probability for one in output.labels] == pytest.approx([probability_of(1.0), probability_of(0.0)])


def test_a_text_is_generated_with_its_own_sampling():
    engine = Writer()
    world = World(engine)
    sampling = {"max_tokens": 7, "temperature": 0.5, "seed": 3}
    [output] = answer_of(world, task="generate", input="red shoes", generation=sampling).outputs
    assert (output.text, output.tokens, output.finish_reason) == ("shoes red", 2, "stop")
    assert (engine.items[0].sampling.max_tokens, engine.items[0].sampling.seed) == (7, 3)
    assert engine.items[0].cost == 4 + 7


@pytest.mark.parametrize(("reason", "generated"), [("stop", 2), ("length", 1)])
def test_generated_tokens_are_tokens_and_no_padding(reason, generated):
    world = World(Writer(reason))
    answer_of(world, task="generate", input="red shoes", generation={"max_tokens": 7})
    [event] = [json.loads(one.value) for one in world.broker.of(TELEMETRY.name)]
    assert event["batches"]["tokens"] == [4 + generated], "nothing came after the last one that a limit cut off"
    assert event["requests"]["tokens"] == [4], "of the input"


def test_a_prompt_that_leaves_no_room_is_shed():
    answer = answer_of(World(Writer()), task="generate", input="red shoes", generation={"max_tokens": 253})
    assert (type(answer), answer.reason) == (RequestShed, "over_limit")
    assert "256 tokens" in answer.message


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"input": "a", "task": "classify"}, "unsupported_task"),
        ({"input": "a", "task": "generate"}, "unsupported_task"),
        ({"input": {"text": "a", "text_pair": "b"}}, "unsupported_input"),
        ({"input": {"image": {"name": "a.png", "media_type": "image/png"}}}, "unsupported_input"),
        ({"input": {"embedding": ""}}, "bad_embedding"),
        ({"input": {"embedding": "AAAAAAA="}}, "bad_embedding"),
        ({"input": {"embedding": [1e300]}}, "bad_embedding"),
    ],
)
def test_what_the_model_cannot_do_fails_at_once(request_, code):
    world = World()
    answer = answer_of(world, **request_)
    assert (type(answer), answer.error) == (InferenceFailed, code)
    assert world.outcomes() == {(0, 0): ("failed", code)}
    assert world.engine.calls == 0
    assert world.committed() == {0: 1}


def test_a_request_above_the_token_limit_is_shed_and_the_next_is_answered():
    world = World(request_tokens_max=6)
    world.ask(json.dumps({"input": ["red shoes", "boots", "red"]}))
    world.ask(json.dumps({"input": "red"}))
    world.run()
    by_offset = {message.request.offset: message for _, message in world.predictions()}
    assert (type(by_offset[0]), by_offset[0].reason) == (RequestShed, "over_limit")
    assert isinstance(by_offset[1], InferenceAnswered)
    assert world.outcomes()[0, 0] == ("shed", "over_limit")


class Picky:
    """A tokeniser that raises what its library raises, for one word."""

    def __init__(self, tokeniser):
        self._tokeniser = tokeniser

    def tokenise(self, texts):
        if any("unspeakable" in text for text in texts):
            raise Exception("WordPiece error: Missing [UNK] token from the vocabulary")
        return self._tokeniser.tokenise(texts)


def test_a_text_that_breaks_the_tokeniser_fails_alone():
    world = World()
    world.servable.tokeniser = Picky(world.servable.tokeniser)
    for text in ("red", "unspeakable", "boots"):
        world.ask(json.dumps({"input": text}))
    world.run()
    assert [world.outcomes()[0, i] for i in range(3)] == [
        ("answered", ""),
        ("failed", "tokenise_error"),
        ("answered", ""),
    ]


def test_other_logits_than_labels_are_no_answer_and_no_crash():
    world = World(Logits(3), servable={"labels": ["a", "b"]})
    answer = answer_of(world, task="classify", input="red shoes")
    assert (type(answer), answer.error) == (InferenceFailed, "wrong_shape")


def test_a_crash_while_an_answer_is_made_is_the_requests_failure():
    class Silent(FakeEngine):
        def compute(self, items):
            return Forward([Tokens((-1,), "stop")] * len(items), np.zeros(len(items), np.float32), 1)

    answer = answer_of(World(Silent(head=Head.TOKENS)), task="generate", input="red")
    assert (type(answer), answer.error) == (InferenceFailed, "OverflowError")


def test_labels_that_no_answer_may_carry_get_names():
    world = World(Logits(2), servable={"labels": ["", "x" * 300]})
    [output] = answer_of(world, task="classify", input="red shoes").outputs
    assert {one.label for one in output.labels} == {"LABEL_0", "x" * 200}


def test_what_is_to_be_generated_counts_towards_the_limit():
    world = World(Writer(), request_tokens_max=100)
    answer = answer_of(world, task="generate", input=["red"] * 3, generation={"max_tokens": 40})
    assert (type(answer), answer.reason) == (RequestShed, "over_limit")


def test_a_vector_longer_than_float32_can_say_is_normalised():
    answer = answer_of(World(), input={"embedding": [3e38, 3e38]})
    assert list(decode_vector(answer.outputs[0].vector)) == pytest.approx([0.5**0.5] * 2)

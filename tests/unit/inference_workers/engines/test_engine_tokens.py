"""Generation: equal to Transformers' own when greedy, seeded when sampled, and alone in any company."""

import numpy as np
import pytest
import torch

from inference_workers.answers.outcomes import batch_facts
from inference_workers.batching.compute import compute
from inference_workers.batching.planner import BatchPlan, arrange
from inference_workers.engines.loading import load_engine
from inference_workers.engines.tokens import TokenEngine, chosen_of, draws_of, parts_within
from inference_workers.ports import EngineError, Head, NonFiniteOutput, Sampling
from infra.clock import SystemClock
from schemas.predictions import ModelRef
from schemas.telemetry import BatchReason
from tests.built_models import END, POSITIONS, CountedCopies, build, item, placement, settings_of

KINDS = ["GPT2LMHeadModel", "LlamaForCausalLM"]
PROMPTS = [(5, 6, 7), (8,), (9, 10, 11, 12, 13, 14, 15), (4, 4), (17, 3)]


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    return build(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def engine(model):
    loaded = load_engine(settings_of(), model)
    assert (loaded.head, list(loaded.labels), loaded.images) == (Head.TOKENS, [], False)
    return loaded.engine


def wanted(prompt, max_tokens=12, temperature=0.0, seed=0):
    return item(*prompt, sampling=Sampling(max_tokens, temperature, seed))


def test_greedy_is_what_transformers_pipeline_says(model, engine):
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, pipeline

    tokeniser = PreTrainedTokenizerFast(tokenizer_file=str(model.path / "tokenizer.json"), pad_token="[PAD]")
    reference = AutoModelForCausalLM.from_pretrained(str(model.path))
    generate = pipeline("text-generation", model=reference, tokenizer=tokeniser)
    texts = ["red shoe", "sofa for kids", "lamp"]
    items = [wanted(tokeniser(text)["input_ids"]) for text in texts]
    for text, told in zip(texts, engine.compute(items).rows, strict=True):
        [answer] = generate(text, max_new_tokens=12, do_sample=False, return_tensors=True, pad_token_id=0)
        whole = list(answer["generated_token_ids"])[len(tokeniser(text)["input_ids"]) :]
        assert list(told.ids) == [token for token in whole if token != END]
        assert told.finish_reason == ("stop" if END in whole else "length")


def test_probability_is_the_mean_of_the_chosen_tokens(model, engine):
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(str(model.path)).eval()
    [told] = engine.compute([wanted(PROMPTS[0], max_tokens=4)]).rows
    ids, chances = list(PROMPTS[0]), []
    tokens = [*told.ids, END] if told.finish_reason == "stop" else told.ids
    for token in tokens:
        with torch.inference_mode():
            chances.append(float(reference(torch.tensor([ids])).logits[0, -1].softmax(0)[token]))
        ids.append(token)
    assert told.probability == pytest.approx(np.mean(chances), abs=1e-5)


def test_each_item_has_its_own_limit_and_reason(model, tmp_path):
    engine = load_engine(settings_of(), model).engine
    [free] = engine.compute([wanted(PROMPTS[0], max_tokens=20)]).rows
    assert len(free.ids) > 3, "else this test shows nothing: take another seed for the tiny model"
    # The fourth token of the same text now ends it.
    ending = build(tmp_path, "GPT2LMHeadModel" if model.config["model_type"] == "gpt2" else "LlamaForCausalLM")
    changed = TokenEngine(ending, placement(Head.TOKENS), cache_tokens_max=1_000)
    changed._ends = torch.tensor([free.ids[3]])
    first, second, third = changed.compute(
        [wanted(PROMPTS[0], max_tokens=20), wanted(PROMPTS[0], max_tokens=2), wanted(PROMPTS[0], max_tokens=4)]
    ).rows
    before = free.ids[: free.ids.index(free.ids[3])]
    assert (first.ids, first.finish_reason) == (before, "stop")
    assert (second.ids, second.finish_reason) == (free.ids[:2], "length")
    assert third.finish_reason == "stop", "the last token that is allowed may be the end"


@pytest.mark.parametrize("max_tokens", [1, 2, 20])
def test_without_company_what_is_computed_is_the_prompt_and_what_was_generated(engine, max_tokens):
    asked = wanted(PROMPTS[0], max_tokens)
    done = compute(engine, SystemClock(), arrange([[asked]], 1_000))
    plan = BatchPlan((0,), BatchReason.FULL)
    facts = batch_facts(ModelRef(name="m", version="1"), plan, [], arrange([[asked]], 1_000), done, 0)
    assert facts.tokens == facts.padded_tokens


def test_seeds_decide(engine):
    hot = [wanted(PROMPTS[0], 16, 1.5, seed) for seed in (1, 2, 1, 2**63 - 1)]
    one, two, again, last = engine.compute(hot).rows
    assert one.ids == again.ids
    assert len({one.ids, two.ids, last.ids}) == 3
    [greedy] = engine.compute([wanted(PROMPTS[0], 16)]).rows
    assert engine.compute([wanted(PROMPTS[0], 16, 1e-9, 5)]).rows[0].ids == greedy.ids, "as cold as greedy"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_company_changes_nothing(engine, temperature):
    items = [wanted(prompt, 5 + 3 * n, temperature, n) for n, prompt in enumerate(PROMPTS)]
    alone = [engine.compute([one]).rows[0] for one in items]
    for order in (items, items[::-1]):
        together = engine.compute(order).rows
        for told, expected in zip(together if order is items else together[::-1], alone, strict=True):
            assert (told.ids, told.finish_reason) == (expected.ids, expected.finish_reason)
            assert told.probability == pytest.approx(expected.probability, abs=1e-5)


def test_the_cache_is_bounded(model, monkeypatch):
    items = [wanted(prompt, 10) for prompt in PROMPTS]
    wide = TokenEngine(model, placement(Head.TOKENS), cache_tokens_max=10_000)
    narrow = TokenEngine(model, placement(Head.TOKENS), cache_tokens_max=24)
    rows = []
    started = narrow._started
    monkeypatch.setattr(narrow, "_started", lambda part: rows.append(len(part)) or started(part))
    assert [one.ids for one in narrow.compute(items).rows] == [one.ids for one in wide.compute(items).rows]
    assert rows == [1, 1, 1, 2]


def test_parts_stay_within_their_cells_and_lose_nothing():
    items = [(wanted((5,) * length, new), Sampling(new)) for length, new in [(3, 4), (9, 1), (1, 30), (2, 2), (2, 2)]]
    parts = list(parts_within(items, 24))
    assert [one for part in parts for one in part] == items
    for part in parts:
        longest, most = max(len(one.ids) for one, _ in part), max(one.max_tokens for _, one in part)
        assert len(part) == 1 or len(part) * (longest + most) <= 24


def test_draws_follow_the_distribution():
    logits = torch.log(torch.tensor([[0.5, 0.0, 0.3, 0.2]])).expand(4_000, 4).clamp_min(-1e9)
    draws = torch.from_numpy(draws_of([Sampling(1, 1.0, seed) for seed in range(4_000)])[:, 0])
    chosen, chances = chosen_of(logits, torch.ones(4_000), draws, logits)
    shares = torch.bincount(chosen, minlength=4) / 4_000
    assert torch.allclose(shares, torch.tensor([0.5, 0.0, 0.3, 0.2]), atol=0.03)
    assert shares[1] == 0
    assert sorted(set(chances.tolist())) == pytest.approx([0.2, 0.3, 0.5])
    cold, _ = chosen_of(logits, torch.full((4_000,), 0.05), draws, logits)
    assert (cold == 0).float().mean() > 0.99


@pytest.mark.parametrize("largest", [0.0, 1.0])
def test_the_edges_of_a_draw_are_tokens(largest):
    draws = np.minimum(np.full(3, largest, np.float32), np.nextafter(np.float32(1), np.float32(0)))
    logits = torch.zeros(3, 5)
    chosen, _ = chosen_of(logits, torch.ones(3), torch.from_numpy(draws), logits)
    assert chosen.tolist() == ([0] * 3 if largest == 0 else [4] * 3)


def test_what_cannot_be_generated_is_an_error(engine):
    for bad, why in [
        (item(5, 6), "how to generate"),
        (wanted((5,) * POSITIONS, 1), "more than the 64 tokens"),
        (wanted((5, 99)), "vocabulary"),
    ]:
        with pytest.raises(EngineError, match=why):
            engine.compute([bad])


def test_an_empty_prompt_begins_at_the_beginning(engine):
    assert engine.compute([wanted(())]).rows[0].ids == engine.compute([wanted((1,))]).rows[0].ids


@pytest.mark.parametrize("kind", KINDS)
def test_logits_that_are_no_numbers_are_an_error(tmp_path, kind):
    with pytest.raises(NonFiniteOutput):
        load_engine(settings_of(), build(tmp_path, kind, poison=True))


def test_a_batch_is_one_copy_to_the_device(model):
    counted = CountedCopies()
    engine = TokenEngine(model, counted.placement, cache_tokens_max=1_000)
    usual = TokenEngine(model, placement(Head.TOKENS), cache_tokens_max=1_000)
    items = [wanted(prompt, 6, heat, 3) for prompt, heat in zip(PROMPTS, (0.0, 1.0, 0.0, 2.0, 0.5), strict=True)]
    assert [one.ids for one in engine.compute(items).rows] == [one.ids for one in usual.compute(items).rows]
    assert counted.copies == 1

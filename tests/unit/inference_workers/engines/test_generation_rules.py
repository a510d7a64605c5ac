"""What a model's generation_config.json says of choosing tokens: as Transformers' own pipeline does it, or refused."""

import json
from functools import partial

import pytest

from inference_workers.engines.generation_rules import ids_of
from inference_workers.engines.loading import load_engine
from inference_workers.models.registry import find_model
from inference_workers.models.verdicts import ModelRefused
from inference_workers.ports import Sampling
from infra.settings import SettingsError
from tests.built_models import END, build, item, settings_of

KINDS = ["GPT2LMHeadModel", "LlamaForCausalLM"]
TEXTS = [
    ("red shoe", True),
    ("sofa for kids", True),
    ("lamp", True),
    ("red green red green red", True),
    ("blue boot chair for men", False),
    ("table", False),  # a single token: only there Transformers forces the first one
]
"""Texts, and whether special tokens are put around them."""
MAX_TOKENS = 12
GREEDY = Sampling(MAX_TOKENS)
FILE = "generation_config.json"
EVERY = [[[token], 1.5] for token in range(4, 40, 3)]
RULES = {
    "repetition_penalty": {"repetition_penalty": 1.6},
    "a reward for repeating": {"repetition_penalty": 0.6},
    "encoder_repetition_penalty": {"encoder_repetition_penalty": 3.0},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 1},
    "no_repeat_ngram_size of pairs": {"no_repeat_ngram_size": 2},
    "encoder_no_repeat_ngram_size": {"encoder_no_repeat_ngram_size": 1},
    "bad_words_ids": {"bad_words_ids": [[token] for token in range(0, 60, 2)] + [[5, 7], [9, 11, 13]]},
    "sequence_bias": {"sequence_bias": [*EVERY, [[5, 7], -9.0], [[7, 5], 9.0]]},
    "suppress_tokens": {"suppress_tokens": list(range(1, 60, 2))},
    "begin_suppress_tokens": {"begin_suppress_tokens": list(range(30))},
    "min_length": {"min_length": 10, "eos_token_id": list(range(2, 30))},
    "min_new_tokens": {"min_new_tokens": 5, "min_length": 60, "eos_token_id": list(range(2, 30))},
    "forced_bos_token_id": {"forced_bos_token_id": 9},
    "forced_bos_token_id, then suppressed": {"forced_bos_token_id": 9, "begin_suppress_tokens": list(range(30))},
    "forced_eos_token_id": {"forced_eos_token_id": [END, 7]},
    "exponential_decay_length_penalty": {"exponential_decay_length_penalty": [2, 1.7], "eos_token_id": [2, 33]},
    "several ends": {"eos_token_id": list(range(2, 30))},
    "no end": {"eos_token_id": None, "min_length": 5},
    "lengths, which the request says": {"max_length": 9, "max_new_tokens": 3},
    "all at once, in order": {
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 2,
        "bad_words_ids": [[5], [7, 9]],
        "sequence_bias": EVERY,
        "suppress_tokens": [11, 13],
        "begin_suppress_tokens": [15, 17, 19],
        "min_new_tokens": 4,
        "forced_eos_token_id": END,
        "exponential_decay_length_penalty": [3, 1.2],
    },
}
CHANGE_NOTHING = ["lengths, which the request says"]


@pytest.fixture(scope="module", params=KINDS)
def world(request, tmp_path_factory):
    return World(build(tmp_path_factory.mktemp(request.param), request.param).path)


def say(folder, fields):
    """The model's generation_config.json has these fields."""
    first = {"bos_token_id": 1, "eos_token_id": END, "pad_token_id": 0}
    (folder / FILE).write_text(json.dumps(first | fields))


def engine_of(folder):
    return load_engine(settings_of(), find_model(str(folder))).engine


def told(engine, prompts, wanted=GREEDY):
    """[(tokens, finish reason)] of these prompts in one batch."""
    return [(one.ids, one.finish_reason) for one in engine.compute([item(*p, sampling=wanted) for p in prompts]).rows]


class World:
    """A model, its prompts, what it says of them without any rule, and what Transformers' pipeline says with rules."""

    def __init__(self, folder):
        from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

        self.folder = folder
        self.tokeniser = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]")
        self.prompts = [self.tokeniser(text, add_special_tokens=special)["input_ids"] for text, special in TEXTS]
        self.reference = AutoModelForCausalLM.from_pretrained(str(folder)).eval()
        say(folder, {})
        self.plain = told(engine_of(folder), self.prompts)

    def greedy_of_pipeline(self, **config):
        """[(tokens, finish reason)], one prompt after the other; `config` changes config.json."""
        from transformers import GenerationConfig, pipeline

        self.reference.generation_config = GenerationConfig.from_pretrained(str(self.folder))
        for name, value in ({"task_specific_params": None} | config).items():
            setattr(self.reference.config, name, value)
        generate = pipeline("text-generation", model=self.reference, tokenizer=self.tokeniser)
        ends = ids_of(self.reference.generation_config.eos_token_id)
        found = []
        for (text, special), ids in zip(TEXTS, self.prompts, strict=True):
            given = {"max_new_tokens": MAX_TOKENS, "do_sample": False, "return_tensors": True}
            [answer] = generate(text, add_special_tokens=special, **given)
            whole = list(answer["generated_token_ids"])
            assert whole[: len(ids)] == ids
            new = whole[len(ids) :]
            stopped = new[-1] in ends
            found.append((tuple(new[:-1] if stopped else new), "stop" if stopped else "length"))
        return found


@pytest.mark.parametrize("name", RULES)
def test_greedy_is_what_transformers_pipeline_says(world, name):
    say(world.folder, RULES[name])
    expected = world.greedy_of_pipeline()
    assert (expected == world.plain) == (name in CHANGE_NOTHING), "else this test shows nothing"
    engine = engine_of(world.folder)
    assert told(engine, world.prompts) == expected, "all in one batch"
    assert [one for prompt in world.prompts for one in told(engine, [prompt])] == expected


def test_what_config_json_says_of_the_task(world, tmp_path):
    of_task = {"task_specific_params": {"text-generation": {"no_repeat_ngram_size": 1, "max_length": 50}}}
    say(world.folder, {})
    expected = world.greedy_of_pipeline(**of_task)
    assert expected != world.plain
    assert told(engine_of(changed(world.folder, tmp_path, "config.json", of_task)), world.prompts) == expected


def changed(folder, to, name, fields):
    """A copy of the model with other fields in one of its files."""
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    (to / name).write_text(json.dumps(json.loads((to / name).read_text()) | fields))
    return to


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return build(tmp_path_factory.mktemp("llama"), "LlamaForCausalLM").path


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("num_beams", 4, "beam search"),
        ("guidance_scale", 1.5, "second pass"),
        ("watermarking_config", {"bias": 2.0}, "watermark"),
        ("stop_strings", ["shoe"], "no tokens"),
        ("max_time", 0.5, "the machine"),
        ("token_healing", True, "changed"),
        ("penalty_alpha", 0.6, "contrastive"),
        ("force_words_ids", [[5]], "beam search"),
        ("forced_bos_token_id", 60, "IndexError"),
        ("forced_eos_token_id", [2, 99], "IndexError"),
        ("bad_words_ids", [[5, 60]], "vocabulary"),
        ("bad_words_ids", "shoe", "list"),
        ("sequence_bias", [[[60], 1.0]], "vocabulary"),
        ("repetition_penalty", -1.0, "strictly positive"),
        ("no_repeat_ngram_size", "two", "integer"),
        ("top_p", 1.5, "float"),
    ],
)
def test_what_is_not_served_is_refused_by_its_name(llama, tmp_path, field, value, why):
    with pytest.raises(SettingsError, match=rf"{field} says .*{why}.* Ways out: take {field} out of"):
        engine_of(changed(llama, tmp_path, FILE, {field: value}))


def test_a_text_before_each_prompt_is_refused(llama, tmp_path):
    of_task = {"task_specific_params": {"text-generation": {"prefix": "Once upon a time"}}}
    with pytest.raises(SettingsError, match=r"prefix asks for a text before each prompt.* Ways out"):
        engine_of(changed(llama, tmp_path, "config.json", of_task))


def test_a_file_that_is_no_json_is_refused(llama, tmp_path):
    changed(llama, tmp_path, FILE, {})
    (tmp_path / FILE).write_text('{"repetition_penalty": 1.')
    with pytest.raises(ModelRefused, match=f"{FILE} cannot be read.* Ways out"):
        engine_of(tmp_path)


def test_what_changes_nothing_is_served(llama, tmp_path):
    fields = {"num_beams": 1, "guidance_scale": 1.0, "do_sample": True, "temperature": 0.6, "repetition_penalty": 1.0}
    engine = engine_of(changed(llama, tmp_path, FILE, fields))
    assert told(engine, [[1, 5, 6]]) == told(engine_of(llama), [[1, 5, 6]])
    assert not engine._rules, "and takes no time"


ONE_TOKEN = [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"epsilon_cutoff": 0.9999}, {"eta_cutoff": 0.9999}]


@pytest.mark.parametrize("fields", ONE_TOKEN)
def test_sampling_keeps_to_the_tokens_that_the_model_allows(llama, tmp_path, fields):
    """Each of these leaves the likeliest token alone, at any temperature."""
    engine = engine_of(changed(llama, tmp_path, FILE, fields))
    warm = partial(Sampling, 6, 0.3)
    assert told(engine, [[1, 5, 6]], warm(seed=4)) == told(engine, [[1, 5, 6]], Sampling(6))


@pytest.mark.parametrize("fields", [{"top_k": 3}, {"top_k": 3, "typical_p": 0.9999, "top_h": 1.0}])
def test_sampling_draws_from_all_that_are_allowed(llama, tmp_path, fields):
    engine = engine_of(changed(llama, tmp_path, FILE, fields))
    hot = [item(1, 5, 6, sampling=Sampling(1, 10.0, seed)) for seed in range(100)]
    assert len({row.ids for row in engine.compute(hot).rows}) == 3
    assert len({row.ids for row in engine_of(llama).compute(hot).rows}) > 10, "without the rule"


def test_a_forced_token_is_as_likely_as_the_model_says(llama, tmp_path):
    engine = engine_of(changed(llama, tmp_path, FILE, {"forced_eos_token_id": 7}))
    [row] = engine.compute([item(1, 5, 6, sampling=Sampling(1))]).rows
    assert row.ids == (7,)
    assert 0 < row.probability < 0.5

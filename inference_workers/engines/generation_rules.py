"""What a model's `generation_config.json` says of choosing tokens, applied by Transformers' own logits processors.

In the order of its `generate`, and to each item alone: it would count padding and company as tokens of the prompt. What
needs more than a token's scores, such as several beams, is refused. Not here: how many tokens, at which temperature;
that the request says.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from inference_workers.models.files import read_object
from inference_workers.models.registry import ModelFolder
from inference_workers.spec import refused
from infra.settings import SettingsError

FILE = "generation_config.json"
TASK = "text-generation"
"""What Transformers' pipeline calls it: config.json may say more of it in `task_specific_params`."""


@dataclass(frozen=True, slots=True)
class Prompted:
    """One item: its prompt [1, tokens], `tokens_max` with what is generated, and the ids that end a text, if any.

    `begin` is the length at which the first free token is chosen: one later where the first is forced.
    """

    prompt: Tensor
    tokens_max: int
    ends: Tensor | None
    begin: int

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return int(self.prompt.shape[1])

    @property
    def device(self) -> Any:
        """Where its tokens are."""
        return self.prompt.device


@dataclass(frozen=True, slots=True)
class Rule:
    """One field: `made(library, value, asked)` is its processor, `off` a value that changes nothing.

    `own`: it differs between items. `ending`: it is about the ends of texts, and nothing where a model has none.
    """

    field: str
    made: Callable[[Any, Any, Prompted], Any]
    off: object = None
    own: bool = False
    ending: bool = False


ALWAYS = (
    Rule("sequence_bias", lambda lib, said, one: lib.SequenceBiasLogitsProcessor(said)),
    Rule(
        "encoder_repetition_penalty",
        lambda lib, said, one: lib.EncoderRepetitionPenaltyLogitsProcessor(said, one.prompt),
        off=1.0,
        own=True,
    ),
    Rule("repetition_penalty", lambda lib, said, one: lib.RepetitionPenaltyLogitsProcessor(said), off=1.0),
    Rule("no_repeat_ngram_size", lambda lib, said, one: lib.NoRepeatNGramLogitsProcessor(said), off=0),
    Rule(
        "encoder_no_repeat_ngram_size",
        lambda lib, said, one: lib.EncoderNoRepeatNGramLogitsProcessor(said, one.prompt),
        off=0,
        own=True,
    ),
    Rule("bad_words_ids", lambda lib, said, one: lib.NoBadWordsLogitsProcessor(said, one.ends)),
    Rule(
        "min_length",
        lambda lib, said, one: lib.MinLengthLogitsProcessor(said, one.ends, one.device),
        off=0,
        ending=True,
    ),
    Rule(
        "min_new_tokens",
        lambda lib, said, one: lib.MinNewTokensLengthLogitsProcessor(one.length, said, one.ends, one.device),
        off=0,
        own=True,
        ending=True,
    ),
    Rule("forced_bos_token_id", lambda lib, said, one: lib.ForcedBOSTokenLogitsProcessor(said)),
    Rule(
        "forced_eos_token_id",
        lambda lib, said, one: lib.ForcedEOSTokenLogitsProcessor(one.tokens_max, said, one.device),
        own=True,
    ),
    Rule(
        "exponential_decay_length_penalty",
        lambda lib, said, one: lib.ExponentialDecayLengthPenalty(said, one.ends, one.length),
        own=True,
    ),
    Rule("suppress_tokens", lambda lib, said, one: lib.SuppressTokensLogitsProcessor(said, one.device)),
    Rule(
        "begin_suppress_tokens",
        lambda lib, said, one: lib.SuppressTokensAtBeginLogitsProcessor(said, one.begin, one.device),
        own=True,
    ),
)
SAMPLED = (
    Rule("top_h", lambda lib, said, one: lib.TopHLogitsWarper(said)),
    Rule("top_k", lambda lib, said, one: lib.TopKLogitsWarper(said), off=0),
    Rule("top_p", lambda lib, said, one: lib.TopPLogitsWarper(said), off=1.0),
    Rule("min_p", lambda lib, said, one: lib.MinPLogitsWarper(said)),
    Rule("typical_p", lambda lib, said, one: lib.TypicalLogitsWarper(said), off=1.0),
    Rule("epsilon_cutoff", lambda lib, said, one: lib.EpsilonLogitsWarper(said), off=0.0),
    Rule("eta_cutoff", lambda lib, said, one: lib.EtaLogitsWarper(said, device=one.device), off=0.0),
)
UNSERVED: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("num_beams", lambda said: said > 1, "beam search"),
    ("num_beam_groups", lambda said: said > 1, "beam search"),
    ("constraints", bool, "constrained beam search"),
    ("force_words_ids", bool, "constrained beam search"),
    ("penalty_alpha", lambda said: said > 0, "contrastive search"),
    ("dola_layers", bool, "decoding by contrasting layers"),
    ("guidance_scale", lambda said: said != 1, "a second pass without the prompt"),
    ("watermarking_config", bool, "a watermark"),
    ("stop_strings", bool, "ends of a text that are no tokens"),
    ("max_time", lambda said: True, "a length that depends on the machine"),
    ("token_healing", bool, "prompts that are changed"),
    ("cache_implementation", lambda said: said == "quantized", "a cache of less precision"),
)
"""Fields that change what is generated and are not served: when, and what they would need. Others that are not named in
this module, such as those of assisted generation or of the cache, change the time it takes, or what is told of it."""


@dataclass(slots=True)
class ItemRules:
    """The rules of one item, which remember its tokens so far [1, tokens]."""

    ids: Tensor
    always: Sequence[Any]
    sampled: Sequence[Any]
    temperature: float

    def scores(self, logits: Tensor) -> Tensor:
        """[vocabulary] float32: the logits as the rules leave them, minus infinity for what may not come next."""
        scores = logits[None]
        for rule in self.always:
            scores = rule(self.ids, scores)
        if self.temperature > 0 and self.sampled:
            heated = scores / self.temperature
            for rule in self.sampled:
                heated = rule(self.ids, heated)
            scores = scores.masked_fill(heated.isneginf(), -torch.inf)
        return scores[0]

    def add(self, token: Tensor) -> None:
        """A token [1] was chosen."""
        self.ids = torch.cat([self.ids, token[None]], dim=1)


class GenerationRules:
    """The rules of a model; false when there are none."""

    def __init__(self, model: ModelFolder, loaded: Any, device: torch.device, library: Any) -> None:
        """Of a model that Transformers, the `library`, has `loaded`.

        Raises SettingsError, which names the field, for what is not served or does not go with the model.
        """
        self._library = library
        self._config = _config_of(model, loaded)
        self._device = device
        self.ends = ids_of(self._config.eos_token_id)
        vocabulary = int(loaded.config.get_text_config().vocab_size)
        known = [token for token in self.ends if token < vocabulary]
        self._ends = torch.tensor(known, device=device) if known else None
        self._try_all(model, vocabulary)
        one = self._asked([0], 1)
        self._always = [self._build_of(rule, one) for rule in ALWAYS if self._applies(rule)]
        self._sampled = [self._build_of(rule, one) for rule in SAMPLED if self._applies(rule)]

    def __bool__(self) -> bool:
        return bool(self._always or self._sampled)

    def of(self, prompt: Sequence[int], new: int, temperature: float) -> ItemRules:
        """The rules of an item that begins with `prompt` and may have `new` tokens more; greedy at temperature 0."""
        asked = self._asked(prompt, new)
        always, sampled = ([build(asked) for build in builds] for builds in (self._always, self._sampled))
        return ItemRules(asked.prompt, always, sampled, temperature)

    def _asked(self, prompt: Sequence[int], new: int) -> Prompted:
        length = len(prompt)
        forced = length <= 1 and self._config.forced_bos_token_id is not None
        ids = torch.tensor([list(prompt)], dtype=torch.long, device=self._device)
        return Prompted(ids, length + new, self._ends, length + forced)

    def _applies(self, rule: Rule) -> bool:
        said = getattr(self._config, rule.field, None)
        return said is not None and said != rule.off and not (rule.ending and self._ends is None)

    def _build_of(self, rule: Rule, some: Prompted) -> Callable[[Prompted], Any]:
        """What makes an item's processor; one for all items where they are alike, as some take long to make."""
        make = partial(rule.made, self._library, getattr(self._config, rule.field))
        if rule.own:
            return make
        made = make(some)
        return lambda asked: made

    def _try_all(self, model: ModelFolder, vocabulary: int) -> None:
        """Apply each rule once, on the CPU: a token that is not in the vocabulary would poison a CUDA device."""
        ends = None if self._ends is None else self._ends.cpu()
        first_and_last = Prompted(torch.zeros((1, 1), dtype=torch.long), 2, ends, 1)
        for rule in (*ALWAYS, *SAMPLED):
            if self._applies(rule):
                said = getattr(self._config, rule.field)
                try:
                    made = rule.made(self._library, said, first_and_last)
                    made(first_and_last.prompt, torch.zeros((1, vocabulary)))
                except Exception as error:  # whatever a value that is no such value makes the library raise
                    why = f"says {str(said)[:100]}: {type(error).__name__}: {str(error)[:300]}"
                    raise _refused(model, rule.field, why) from None


def ids_of(said: int | list[int] | None) -> list[int]:
    """Token ids of a field that names one, several, or none."""
    return [] if said is None else [said] if isinstance(said, int) else list(said)


def _config_of(model: ModelFolder, loaded: Any) -> Any:
    """The GenerationConfig that Transformers' pipeline would take. Raises SettingsError for fields not served."""
    read_object(model.path / FILE, model.source)  # Transformers takes one that is no JSON for none
    config = copy.deepcopy(loaded.generation_config)
    tasks = getattr(loaded.config, "task_specific_params", None) or {}
    of_task = dict(tasks.get(TASK) or {})
    if of_task.pop("prefix", None):
        raise _refused(model, f"task_specific_params.{TASK}.prefix", "asks for a text before each prompt: not served")
    config.update(**of_task)
    for field, matters, what in UNSERVED:
        said = getattr(config, field, None)
        if said is not None and matters(said):
            raise _refused(model, field, f"says {str(said)[:100]} and asks for {what}, which is not served")
    if config.min_new_tokens is not None:
        config.min_length = None  # it goes before
    return config


def _refused(model: ModelFolder, field: str, why: str) -> SettingsError:
    ways_out = f"take {field} out of {FILE} (or config.json), if its texts may be others then; or serve another model"
    return refused("model", model.path.name, f"its {field} {why}", ways_out)

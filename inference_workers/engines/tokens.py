"""Generation by causal language models, through Transformers: batched, greedy or sampled, with a bounded cache.

An item's draws come from its own seed and number of token, so its tokens do not depend on its company. What company
changes is rounding: in float32 a near tie of 1 in a million; in bfloat16 ties are real, and a token may change.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from inference_workers.engines.failures import computed
from inference_workers.engines.from_transformers import load
from inference_workers.engines.generation_rules import GenerationRules, ItemRules, ids_of
from inference_workers.engines.inputs import limit_of, pad
from inference_workers.engines.placement import Placement
from inference_workers.models.registry import ModelFolder
from inference_workers.ports import EngineError, Forward, Head, Item, NonFiniteOutput, Sampling, Tokens
from inference_workers.spec import refused

GREEDY_BELOW = 1e-4
"""A lower temperature is greedy: dividing by it would overflow, and what it draws is the likeliest token anyway."""
DRAW_MAX = float(np.nextafter(np.float32(1), np.float32(0)))
"""Largest draw: below 1 after rounding to float32."""


class TokenEngine:
    """An `Engine` with `Head.TOKENS`. Items carry `sampling`; what ends a text is not among its tokens."""

    head = Head.TOKENS

    def __init__(self, model: ModelFolder, placement: Placement, *, cache_tokens_max: int) -> None:
        """`cache_tokens_max` bounds the tokens in the key-value cache at once, padding and tokens to come included,
        but for a single item that needs more. Raises SettingsError for what the model asks for and is not served."""
        self._placement = placement
        self._cache_tokens_max = cache_tokens_max
        self._model = load("AutoModelForCausalLM", model, placement)
        if getattr(self._model, "_is_stateful", False):
            why = "it keeps a state that cannot be padded, and only models with a key-value cache are served"
            raise refused("model", model.path.name, why, "serve a transformer; or turn the model into one")
        self._limit = limit_of(model.config)
        self._takes = inspect.signature(self._model.forward).parameters
        import transformers  # imported by `load` already

        self._rules = GenerationRules(model, self._model, placement.device, transformers)
        self._ends = torch.tensor(self._rules.ends, dtype=torch.long, device=placement.device)
        self._begin = ids_of(self._model.generation_config.bos_token_id)

    def compute(self, items: Sequence[Item]) -> Forward:
        """See `Engine.compute`. Raises EngineError for an item without `sampling`."""
        return computed(lambda: self._generate(items))

    def memory_bytes(self) -> int:
        """See `Engine.memory_bytes`."""
        return self._placement.memory_bytes()

    def close(self) -> None:
        """See `Engine.close`."""
        del self._model
        self._placement.release()

    def _generate(self, items: Sequence[Item]) -> Forward:
        rows: list[Tokens] = []
        tokens = 0
        for part in parts_within([self._checked(item) for item in items], self._cache_tokens_max):
            run = self._started(part)
            while run.alive:
                self._step(run)
            rows += [told.tokens() for told in run.told]
            tokens += run.tokens_computed
        return Forward(rows, np.zeros(len(rows), np.float32), tokens)

    def _checked(self, item: Item) -> tuple[Item, Sampling]:
        sampling = item.sampling
        if sampling is None:
            raise EngineError("an item says nothing of how to generate")
        if not item.ids and self._begin:  # an empty prompt, of a tokeniser without special tokens
            item = Item(self._begin[:1], item.content, sampling=sampling, cost=item.cost)
        if self._limit.tokens and len(item.ids) + sampling.max_tokens > self._limit.tokens:
            raise EngineError(f"prompt and max_tokens are more than the {self._limit.tokens} tokens of the model")
        return item, sampling

    def _started(self, part: Sequence[tuple[Item, Sampling]]) -> _Run:
        """Everything that the batch needs is on the device; nothing is computed."""
        from transformers import DynamicCache

        padded = pad([item for item, _ in part], self._limit, 0, left=True)
        limits = np.array([wanted.max_tokens for _, wanted in part], np.int32)
        heats = np.array([wanted.temperature for _, wanted in part], np.float32)
        heats[heats < GREEDY_BELOW] = 0
        draws = draws_of([wanted for _, wanted in part]) if heats.any() else np.zeros((len(part), 0), np.float32)
        there = self._placement.staging.send([padded.ids, padded.mask, limits, heats, draws])
        ids, mask = there[0].long(), there[1].long()
        return _Run(
            ids=ids,
            mask=mask,
            positions=(mask.cumsum(1) - 1).clamp_min(0),
            limits=there[2],
            heats=there[3],
            draws=there[4],
            cache=DynamicCache(config=self._model.config),
            alive=list(range(len(part))),
            told=[_Told() for _ in part],
            rules=self._rules_of(part, heats.tolist()),
        )

    def _rules_of(self, part: Sequence[tuple[Item, Sampling]], heats: Sequence[float]) -> list[ItemRules]:
        if not self._rules:
            return []
        pairs = zip(part, heats, strict=True)
        return [self._rules.of(item.ids, wanted.max_tokens, heat) for (item, wanted), heat in pairs]

    def _step(self, run: _Run) -> None:
        """One more token for each item that is not finished. Finished ones leave the batch and the cache."""
        given = {"position_ids": run.positions, "logits_to_keep": 1}
        out = self._model(
            input_ids=run.ids,
            attention_mask=run.mask,
            past_key_values=run.cache,
            use_cache=True,
            **{name: value for name, value in given.items() if name in self._takes},
        )
        run.tokens_computed += run.ids.numel()
        logits = out.logits[:, -1].float()
        draws = run.draws[:, run.step] if run.draws.shape[1] else None
        chosen, chances = chosen_of(logits, run.heats, draws, run.ruled(logits))
        run.step += 1
        ended = torch.isin(chosen, self._ends)
        finished = ended | (run.limits <= run.step)
        finite = torch.isfinite(logits).all(1)
        # float64 holds every token id; one copy to the host a step.
        told = torch.stack([chosen.double(), chances.double(), ended.double(), finished.double(), finite.double()])
        ids, probabilities, ends, done, good = told.cpu().tolist()
        if not all(good):
            raise NonFiniteOutput(f"the model gave NaN or infinity for some of {len(good)} inputs")
        for number, token, chance, end in zip(run.alive, ids, probabilities, ends, strict=True):
            run.told[number].add(int(token), chance, ended=bool(end))
        run.advance(chosen, finished, any(done))


@dataclass(slots=True)
class _Told:
    """What was generated for one item so far."""

    ids: list[int] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)
    reason: Literal["stop", "length"] = "length"

    def add(self, token: int, chance: float, *, ended: bool) -> None:
        self.chances.append(chance)
        if ended:
            self.reason = "stop"
        else:
            self.ids.append(token)

    def tokens(self) -> Tokens:
        return Tokens(tuple(self.ids), self.reason, sum(self.chances) / max(1, len(self.chances)))


@dataclass(slots=True)
class _Run:
    """A batch under way. Tensors and `rules` have a row for each item that is alive; `told` has one for each item.

    `ids` and `positions` are what is computed next, `mask` covers the cache and them.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor
    limits: Tensor
    heats: Tensor
    draws: Tensor
    cache: Any
    alive: list[int]
    told: list[_Told]
    rules: list[ItemRules]
    step: int = 0
    tokens_computed: int = 0

    def ruled(self, logits: Tensor) -> Tensor:
        """The logits [alive, vocabulary] as the model's rules leave them; as they are without any."""
        if not self.rules:
            return logits
        return torch.stack([rules.scores(row) for rules, row in zip(self.rules, logits, strict=True)])

    def advance(self, chosen: Tensor, finished: Tensor, some_finished: bool) -> None:
        """Go on with the chosen tokens [alive], without the finished."""
        self.ids = chosen[:, None]
        if self.rules:
            for rules, token in zip(self.rules, self.ids, strict=True):
                rules.add(token)
        self.positions = self.positions[:, -1:] + 1
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)
        if not some_finished:
            return
        kept = (~finished).nonzero()[:, 0]
        rows = kept.tolist()
        self.alive = [self.alive[row] for row in rows]
        self.rules = [self.rules[row] for row in rows] if self.rules else []
        if not self.alive:
            return
        self.cache.batch_select_indices(kept)
        for name in ("ids", "mask", "positions", "limits", "heats", "draws"):
            setattr(self, name, getattr(self, name)[kept])


def chosen_of(logits: Tensor, heats: Tensor, draws: Tensor | None, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The next token of each row [n] and the probability [n] that the model gives it, at temperature 1.

    logits [n, vocabulary] float32; `scores` are what rules made of them, the logits where there are none. Where `heats`
    [n] is 0 the token of the highest score; else the token at `draws` [n] in [0, 1) of the cumulative distribution at
    that temperature.
    """
    chosen = scores.argmax(1)
    if draws is not None:
        above = scores - scores.amax(1, keepdim=True)
        weights = (above / torch.where(heats > 0, heats, 1.0)[:, None]).double().exp()
        summed = weights.cumsum(1)
        at = draws.double()[:, None] * summed[:, -1:]
        drawn = torch.searchsorted(summed, at, right=True)[:, 0].clamp_max(scores.shape[1] - 1)
        chosen = torch.where(heats > 0, drawn, chosen)
    chances = logits.softmax(1).gather(1, chosen[:, None])[:, 0]
    return chosen, chances


def draws_of(wanted: Sequence[Sampling]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """[n, most max_tokens] numbers in [0, 1), each row from its own seed (Philox: Salmon et al., 2011)."""
    draws = np.zeros((len(wanted), max(one.max_tokens for one in wanted)), np.float32)
    for row, one in zip(draws, wanted, strict=True):
        row[: one.max_tokens] = np.random.Generator(np.random.Philox(key=one.seed)).random(one.max_tokens)
    return np.minimum(draws, np.float32(DRAW_MAX))


def parts_within(items: Sequence[tuple[Item, Sampling]], cells_max: int) -> Iterator[Sequence[tuple[Item, Sampling]]]:
    """The items in order, cut so that no part's cache can grow above `cells_max` tokens, padding included."""
    part: list[tuple[Item, Sampling]] = []
    prompt = new = 0
    for item, wanted in items:
        longest, most = max(prompt, len(item.ids)), max(new, wanted.max_tokens)
        if part and (len(part) + 1) * (longest + most) > cells_max:
            yield part
            part, longest, most = [], len(item.ids), wanted.max_tokens
        part.append((item, wanted))
        prompt, new = longest, most
    yield part

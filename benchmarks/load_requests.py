"""What a load test sends: requests of one task, of a mixture of sizes, by shares of scenarios; or those of a file. Pure
but for reading that file; one seed, one load."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from producers.client import REQUEST_BYTES_MAX
from schemas.base import encode
from schemas.requests import INPUTS_MAX, InferenceRequested

TEXTS_MAX = 200_000
"""References to texts kept for one run, of all its requests together: with many items a request fewer are made."""
FILE_REQUESTS_MAX, FILE_BYTES_MAX = 100_000, 512 * 1_048_576
"""A larger file is refused: all of it is held in memory, so that reading it slows no sending."""
WORDS_MAX = 20_000
"""Words of one text."""
CHARACTERS_MAX = 64_000_000
"""Of all texts that are made for one run: with long ones fewer requests are made."""
KEY_BYTES_MAX = 32

SENT = ("input", "scenario", "task", "query", "top_n", "encoding_format", "generation", "timeout_ms")
"""Fields of a request that its producer gives."""

Request = Mapping[str, Any]
"""Arguments of `Producer.send`: input, task, scenario and what belongs to the task."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Names or ranges with the share of each; shares sum to 1."""

    values: tuple[Any, ...]
    shares: tuple[float, ...]

    def choose(self, chance: random.Random) -> Any:
        """One of them, as often as its share says."""
        return self.values[0] if len(self.values) == 1 else chance.choices(self.values, self.shares)[0]


@dataclass(frozen=True, slots=True)
class LoadShape:
    """One task's requests. `items` (first, last): inputs a request, or items to rank, each count as likely. `words`:
    ranges (first, last) of words a text, None to send queries as they are. `max_tokens`: most to generate."""

    task: str = "embed"
    scenarios: Shares = Shares(("search",), (1.0,))
    items: tuple[int, int] = (1, 1)
    words: Shares | None = None
    max_tokens: int = 16


def requests_of(shape: LoadShape, texts: Sequence[str], count: int, seed: int) -> list[Request]:
    """At most `count` requests of that shape from real `texts`; fewer when they have many items or long texts. Raises
    ValueError when one is larger than a topic takes."""
    chance = random.Random(seed)
    words = [] if shape.words is None else [word for text in texts for word in text.split()]
    mean_items = sum(shape.items) / 2
    made: list[Request] = []
    characters = 0
    for _ in range(max(1, min(count, int(TEXTS_MAX / mean_items)))):
        inputs = [_text(shape, texts, words, chance) for _ in range(chance.randint(*shape.items))]
        request: dict[str, Any] = {
            "input": inputs if len(inputs) > 1 or shape.task == "rerank" else inputs[0],
            "task": shape.task,
            "scenario": shape.scenarios.choose(chance),
        }
        if shape.task == "rerank":
            request["query"] = _text(shape, texts, words, chance)
        if shape.task == "generate":
            request["generation"] = {"max_tokens": shape.max_tokens, "seed": chance.randrange(2**31)}
        made.append(request)
        length = sum(map(len, inputs))
        if 2 * length > REQUEST_BYTES_MAX:  # only then may it be too large, and to look costs
            _check_size(InferenceRequested.model_validate(request), "a request of that shape")
        characters += length if words else 0
        if characters > CHARACTERS_MAX:
            break
    return made


def _check_size(request: InferenceRequested, what: str) -> None:
    size = len(encode(request)) + KEY_BYTES_MAX
    if size > REQUEST_BYTES_MAX:
        raise ValueError(f"{what}: {size} bytes as JSON, at most {REQUEST_BYTES_MAX} are taken")


def _text(shape: LoadShape, texts: Sequence[str], words: Sequence[str], chance: random.Random) -> str:
    if shape.words is None:
        return texts[chance.randrange(len(texts))]
    first, last = shape.words.choose(chance)
    return " ".join(chance.choices(words, k=chance.randint(first, last)))


def requests_of_file(path: Path, scenarios: Shares | None, seed: int) -> list[Request]:
    """The requests of a JSONL file, in order, as they would be written on the topic; empty lines are left out.

    `scenarios` replace those of the file. Raises ValueError with the line and what is wrong with it, OSError.
    """
    if path.stat().st_size > FILE_BYTES_MAX:
        raise ValueError(f"it has more than {FILE_BYTES_MAX // 1_048_576} MiB")
    chance = random.Random(seed)
    made: list[Request] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            if len(made) == FILE_REQUESTS_MAX:
                raise ValueError(f"it has more than {FILE_REQUESTS_MAX} requests")
            request = _parsed(line.strip(), number)
            if scenarios is not None:
                request["scenario"] = scenarios.choose(chance)
            made.append(request)
    if not made:
        raise ValueError("it holds no requests")
    return made


def _parsed(line: bytes, number: int) -> dict[str, Any]:
    if len(line) > REQUEST_BYTES_MAX:
        raise ValueError(f"line {number}: {len(line)} bytes, at most {REQUEST_BYTES_MAX} are taken")
    try:
        request = InferenceRequested.model_validate_json(line)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False)
        where = ".".join(str(part) for part in first["loc"]) or "request"
        raise ValueError(f"line {number}: {where}: {first['msg']}") from None
    _check_size(request, f"line {number}")
    return {name: getattr(request, name) for name in sorted(request.model_fields_set & set(SENT))}


def mean_inputs(requests: Sequence[Request]) -> float:
    """Inputs a request, in the mean: what to multiply requests a second by for items a second."""
    return sum(len(one["input"]) if isinstance(one["input"], list) else 1 for one in requests) / len(requests)


def parse_range(text: str, most: int) -> tuple[int, int]:
    """First and last of `3` or `1-16`. Raises ValueError."""
    first, dash, last = text.partition("-")
    if not dash:
        last = first
    if not (first.isdecimal() and last.isdecimal()):
        raise ValueError(f"{text!r} is no number and no range such as 1-16")
    low, high = int(first), int(last)
    if not 1 <= low <= high <= most:
        raise ValueError(f"{text!r} is not within 1 to {most}, the lower number first")
    return low, high


def parse_items(text: str) -> tuple[int, int]:
    """Inputs a request: `1`, or `2-16`. Raises ValueError."""
    return parse_range(text, INPUTS_MAX)


def parse_words(text: str) -> Shares:
    """Ranges of words with shares: `1-16=0.99,17-200=0.01`. Raises ValueError."""
    found = parse_shares(text)
    return Shares(tuple(parse_range(value, WORDS_MAX) for value in found.values), found.shares)


def parse_shares(text: str) -> Shares:
    """Shares by name, `search=0.8,recommendation=0.2`, made to sum to 1; one name alone has all. Raises ValueError."""
    names, weights = [], []
    for part in text.split(","):
        name, _, weight = (side.strip() for side in part.partition("="))
        try:
            number = float(weight) if weight else 1.0
        except ValueError:
            raise ValueError(f"{weight!r} is no share: write name=0.8,other=0.2") from None
        if not name or name in names or not 0 < number < 1e9:
            raise ValueError(f"{part!r}: each name once, with a share above 0: name=0.8,other=0.2")
        names.append(name)
        weights.append(number)
    total = sum(weights)
    return Shares(tuple(names), tuple(weight / total for weight in weights))

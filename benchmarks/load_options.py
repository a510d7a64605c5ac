"""The options of `inferwatch loadtest` that say what is sent, and the requests that they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from benchmarks.load_requests import Request, Shares

TASKS = ("embed", "rerank", "classify", "generate")
"""Those of `schemas.requests.Task`; importing that takes longer than `--help` may. A test compares them."""
QUERIES_MIN, QUERIES_MAX = 1_000, 100_000


class Parsed(click.ParamType):
    """A text that one of `benchmarks.load_requests`' parsers reads."""

    def __init__(self, name: str, parser: str) -> None:
        self.name, self._parser = name, parser

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What the parser makes of it; a usage error says what is wrong."""
        if not isinstance(value, str):
            return value
        from benchmarks import load_requests

        try:
            return getattr(load_requests, self._parser)(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


OPTIONS = (
    click.option(
        "--scenario",
        "scenarios",
        type=Parsed("shares", "parse_shares"),
        default="search",
        show_default=True,
        help="Scenario, or shares of several: search=0.8,ads=0.2.",
    ),
    click.option("--task", type=click.Choice(TASKS), default="embed", show_default=True, help="Task of the requests."),
    click.option(
        "--items",
        type=Parsed("range", "parse_items"),
        default="1",
        show_default=True,
        help="Inputs a request, or items to rank: 16, or 1-64.",
    ),
    click.option(
        "--words",
        type=Parsed("shares", "parse_words"),
        help="Words a text instead of real queries, a mixture of ranges with shares: 1-16=0.99,17-200=0.01.",
    ),
    click.option(
        "--max-tokens", type=click.IntRange(1, 4_096), default=16, show_default=True, help="generate: most to generate."
    ),
    click.option(
        "--from",
        "file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="JSONL file of requests, sent in order and again from the start, instead of --task, --items and --words.",
    ),
)


def load_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options."""
    return reduce(lambda made, option: option(made), reversed(OPTIONS), command)


@dataclass(frozen=True, slots=True)
class Load:
    """Requests to send, and how they were chosen, in words for the result."""

    requests: list[Request]
    facts: dict[str, Any]


def load_of(context: click.Context, count: int, seed: int, *, file: Path | None, **shape: Any) -> Load:
    """The load that the options describe, of at most `count` requests. Raises UsageError."""
    from pydantic import TypeAdapter, ValidationError

    from schemas.base import Slug

    scenarios: Shares = shape["scenarios"]
    try:
        TypeAdapter(tuple[Slug, ...]).validate_python(scenarios.values)
    except ValidationError as error:
        raise click.UsageError(f"--scenario: {error.errors(include_url=False)[0]['msg']}") from None
    if file is not None:
        return _of_file(context, file, scenarios, seed)
    return _made(count, seed, **shape)


def _of_file(context: click.Context, file: Path, scenarios: Shares, seed: int) -> Load:
    from benchmarks.load_requests import mean_inputs, requests_of_file

    given = {name for name in context.params if context.get_parameter_source(name) == _BY_HAND}
    clash = sorted(given & {"task", "items", "words", "max_tokens"})
    if clash:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in clash)
        raise click.UsageError(f"--from says what is sent: leave {names} out, or the file")
    replaced = scenarios if "scenarios" in given else None
    try:
        requests = requests_of_file(file, replaced, seed)
    except (ValueError, OSError) as error:
        raise click.UsageError(f"--from {file.name}: {error}") from None
    facts = {"texts": f"{len(requests)} requests of {file.name}", "inputs_mean": round(mean_inputs(requests), 3)}
    return Load(requests, facts | {"scenarios": _told(replaced)})


_BY_HAND = click.core.ParameterSource.COMMANDLINE


def _made(count: int, seed: int, **shape: Any) -> Load:
    from benchmarks.load_requests import LoadShape, mean_inputs, requests_of
    from benchmarks.queries import real_queries

    queries = real_queries()
    count = min(QUERIES_MAX, max(QUERIES_MIN, count))
    wanted = LoadShape(**shape)
    try:
        requests = requests_of(wanted, queries.choose(count, seed), count, seed)
    except ValueError as error:
        raise click.UsageError(f"--items and --words: {error}") from None
    facts = {
        "task": wanted.task,
        "texts": queries.source if wanted.words is None else f"words of {queries.source}",
        "items": wanted.items,
        "inputs_mean": round(mean_inputs(requests), 3),
        "words": _told(wanted.words),
        "scenarios": _told(wanted.scenarios),
    }
    if wanted.task == "generate":
        facts["max_tokens"] = wanted.max_tokens
    return Load(requests, facts)


def _told(shares: Shares | None) -> dict[str, float] | None:
    if shares is None:
        return None
    names = ("-".join(map(str, one)) if isinstance(one, tuple) else one for one in shares.values)
    return dict(zip(names, (round(share, 6) for share in shares.shares), strict=True))

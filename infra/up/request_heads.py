"""The part of a request that the books need: which scenario asked, and until when. Never raises on bad bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

from schemas.base import VALUE_BYTES_MAX
from schemas.requests import InferenceRequested

DEFAULT_SCENARIO: str = InferenceRequested.model_fields["scenario"].default
UNREADABLE = ""
"""Scenario of what is no JSON object with a scenario."""
_SLUG = re.compile(r"[a-z0-9][a-z0-9_.\-]{0,63}")


def as_scenario(name: object) -> str:
    """The name, where it may be a scenario's, else `UNREADABLE`."""
    return name if isinstance(name, str) and _SLUG.fullmatch(name) else UNREADABLE


@dataclass(frozen=True, slots=True)
class Head:
    """Who asked, `UNREADABLE` where it is not said; and within how many milliseconds, None where any time will do."""

    scenario: str
    timeout_ms: int | None = None


def head_of(value: bytes | None, *, is_cut: bool = False) -> Head:
    """What a request's value says: the same for the record and for its dead letter."""
    if value is None or is_cut or len(value) > VALUE_BYTES_MAX:
        return Head(UNREADABLE)
    try:
        asked = orjson.loads(value)
    except orjson.JSONDecodeError:
        return Head(UNREADABLE)
    if not isinstance(asked, dict):
        return Head(UNREADABLE)
    timeout_ms = asked.get("timeout_ms")
    return Head(
        as_scenario(asked.get("scenario", DEFAULT_SCENARIO)),
        timeout_ms if type(timeout_ms) is int and timeout_ms > 0 else None,
    )


def scenario_of(value: bytes | None, *, is_cut: bool = False) -> str:
    """The scenario that a request's value names, see `head_of`."""
    return head_of(value, is_cut=is_cut).scenario

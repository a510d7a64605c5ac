"""The part of a request that the books need: which scenario asked. Never raises on bad bytes."""

from __future__ import annotations

import re

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


def scenario_of(value: bytes | None, *, is_cut: bool = False) -> str:
    """The scenario that a request's value names, `UNREADABLE` where it names none: the same for the record and for
    its dead letter."""
    if value is None or is_cut or len(value) > VALUE_BYTES_MAX:
        return UNREADABLE
    try:
        asked = orjson.loads(value)
    except orjson.JSONDecodeError:
        return UNREADABLE
    return as_scenario(asked.get("scenario", DEFAULT_SCENARIO)) if isinstance(asked, dict) else UNREADABLE

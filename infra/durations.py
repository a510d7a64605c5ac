"""Durations on the command line: `60s`, `5m`, `1h`, `250ms`, or plain seconds."""

from __future__ import annotations

import re

import click

_PATTERN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def parse_seconds(text: str) -> float:
    """Seconds meant by a text such as `60s`, `1.5m` or `30`. Raises ValueError when it is none."""
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no duration: write 250ms, 60s, 5m, 1h or plain seconds")
    return float(match[1]) * _SECONDS[match[2] or "s"]


class Duration(click.ParamType):
    """A duration between two bounds, in seconds, as a click option."""

    name = "duration"

    def __init__(self, least_seconds: float = 0.0, most_seconds: float = 366 * 86_400.0) -> None:
        self._least, self._most = least_seconds, most_seconds

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds; a usage error says what is wrong."""
        try:
            seconds = value if isinstance(value, float) else parse_seconds(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not self._least <= seconds <= self._most:
            self.fail(f"{value} is outside {self._least:g} s to {self._most:g} s", param, ctx)
        return seconds

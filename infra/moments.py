"""Moments on the command line: an ISO time, or a duration ago such as `1h`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from infra.durations import parse_seconds


def parse_moment(text: str, now_ms: int, *, needs_zone: bool = False) -> int:
    """Epoch milliseconds meant by a text: `90s` and `1h` are so long before now; a time without a zone is UTC, or
    refused.

    Raises ValueError when it is neither.
    """
    try:
        return now_ms - round(1000 * parse_seconds(text))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no moment: write 30m or 1h for so long ago, or 2026-11-29T08:00:00Z") from None
    if needs_zone and moment.tzinfo is None:
        raise ValueError(f"{text!r} has no zone: write {text}Z for UTC")
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


class Moment(click.ParamType):
    """A moment as a click option: epoch milliseconds."""

    name = "moment"

    def __init__(self, *, needs_zone: bool = False) -> None:
        """`needs_zone`: whether a time without one is refused, or else is UTC."""
        self._needs_zone = needs_zone

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Milliseconds; a usage error says what is wrong."""
        if isinstance(value, int):
            return value
        try:
            return parse_moment(str(value), round(datetime.now(UTC).timestamp() * 1000), needs_zone=self._needs_zone)
        except (ValueError, OverflowError) as error:
            self.fail(str(error), param, ctx)

"""`inferwatch predictions tail` and `inferwatch alerts tail`: what is said on a topic, as it is said."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

import click

from infra.answer_text import outputs_in_short
from infra.durations import Duration
from infra.ports import Record
from schemas.alerts import AlertChanged
from schemas.base import DecodeError, Message, decode
from schemas.predictions import InferenceAnswered, InferenceFailed, RequestShed
from schemas.topics import ALERTS, PREDICTIONS, Topic

Show = Callable[[Record, Message], str]
REMEMBERED_MAX = 20_000
"""Requests of a partition whose answer was shown, the last: some 2 MB. A worker that takes over answers again what the
one before had not committed, and that is at most 10,000 records of a partition."""


class Reader(Protocol):
    """What is read from: `KafkaTail`, or a test's own."""

    def poll(self, count_max: int, timeout_seconds: float) -> list[Record]:
        """Up to `count_max` records."""


class FirstAnswers:
    """Tells a request's first answer from those that a worker gave again, after another died.

    Memory: the last `REMEMBERED_MAX` requests of each partition.
    """

    def __init__(self) -> None:
        self._shown: dict[tuple[str, str, int], dict[int, None]] = {}

    def is_first(self, message: Message) -> bool:
        """Whether the message is no answer, or the first to its request. Called once for each message, in order."""
        if not isinstance(message, InferenceAnswered | InferenceFailed | RequestShed):
            return True
        request = message.request
        shown = self._shown.setdefault((request.cluster_id, request.topic_id, request.partition), {})
        if request.offset in shown:
            return False
        shown[request.offset] = None
        if len(shown) > REMEMBERED_MAX:
            del shown[next(iter(shown))]
        return True


_ALL = click.option("--all", "from_start", is_flag=True, help="Start with the oldest that is kept, not with the next.")
_COUNT = click.option("--count", type=click.IntRange(min=1), help="End after so many.")
_FOR = click.option("--for", "seconds", type=Duration(0.1), help="End after this time: 60s, 5m. Default: Ctrl-C ends.")
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line: position, time, type, data.")


@click.group()
def predictions() -> None:
    """What workers answer."""


@click.group()
def alerts() -> None:
    """Incidents as they open, change and are resolved."""


@predictions.command("tail")
@_ALL
@_COUNT
@_FOR
@_JSON
def predictions_tail(from_start: bool, count: int | None, seconds: float | None, as_json: bool) -> None:
    """Show answers as workers publish them, of each request the first: a worker that died may have one given again.

    \b
    Example:
      inferwatch predictions tail --count 5
      inferwatch predictions tail --for 60s --json | jq .data.timings_ms.total
    """
    _tail(PREDICTIONS, _prediction_line, from_start, count, seconds, as_json)


@alerts.command("tail")
@_ALL
@_COUNT
@_FOR
@_JSON
def alerts_tail(from_start: bool, count: int | None, seconds: float | None, as_json: bool) -> None:
    """Show alerts as they change. With --all also those of the past: at least the last state of each incident.

    \b
    Example:
      inferwatch alerts tail --all
      inferwatch alerts tail --json | jq 'select(.data.status == "open")'
    """
    _tail(ALERTS, _alert_line, from_start, count, seconds, as_json)


def _tail(topic: Topic, show: Show, from_start: bool, count: int | None, seconds: float | None, as_json: bool) -> None:
    from infra.connect import kafka_connection
    from infra.kafka import KafkaTail

    tail = KafkaTail(kafka_connection(), [topic.name], start="beginning" if from_start else "end")
    try:
        with contextlib.suppress(KeyboardInterrupt):  # the usual way to end it
            for line in follow(tail, topic, show, count=count, seconds=seconds, as_json=as_json):
                click.echo(line)
    finally:
        tail.close()


def follow(
    tail: Reader,
    topic: Topic,
    show: Show,
    *,
    count: int | None,
    seconds: float | None,
    as_json: bool,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[str]:
    """Lines for records as they come, until `count` were shown or `seconds` have passed. Ones that cannot be read
    are shown as such and counted; tombstones and answers given again are passed over."""
    first_answers = FirstAnswers()
    end = None if seconds is None else monotonic() + seconds
    shown = 0
    while end is None or monotonic() < end:
        for record in tail.poll(500, 0.25):
            line = None if record.value is None else _line(record, topic, show, as_json, first_answers)
            if line is None:
                continue
            yield line
            shown += 1
            if shown == count:
                return


def _line(record: Record, topic: Topic, show: Show, as_json: bool, first_answers: FirstAnswers) -> str | None:
    """The line of a record; None for an answer that was given again."""
    where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    try:
        message = decode(record.headers, record.value, topic.kinds).data
    except DecodeError as error:
        if as_json:
            return json.dumps(where | {"appended_ms": record.timestamp_ms, "unreadable": str(error)})
        return f"{clock_time(record.timestamp_ms)} unreadable record {record.partition}@{record.offset}: {error}"
    if not first_answers.is_first(message):
        return None
    if as_json:
        data: dict[str, Any] = message.model_dump(mode="json", exclude_none=True)
        return json.dumps(where | {"appended_ms": record.timestamp_ms, "type": message.event_type(), "data": data})
    return f"{clock_time(record.timestamp_ms)} {show(record, message)}"


def clock_time(epoch_ms: int) -> str:
    """Hours to milliseconds, UTC."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]


def _prediction_line(record: Record, message: Message) -> str:
    if isinstance(message, InferenceAnswered):
        timings = message.timings_ms
        what = (
            f"{timings.total:8.1f} ms (queue {timings.queue:.1f}, tokenise {timings.tokenise:.1f}, "
            f"compute {timings.compute:.1f})  "
            f"{outputs_in_short(message)}  {message.model.name}"
        )
        outcome = "answered"
    elif isinstance(message, InferenceFailed):
        outcome, what = "failed", f"{message.error}: {message.message}"
    elif isinstance(message, RequestShed):
        outcome, what = "shed", f"{message.reason} {message.message}"
    else:
        return message.event_type()
    request = message.request
    name = printable(message.request_id) or "-"
    return f"{outcome:<8} {message.scenario:<14} {request.partition}@{request.offset}  {printable(what)}  {name}"


def _alert_line(record: Record, message: Message) -> str:
    if not isinstance(message, AlertChanged):
        return message.event_type()
    return (
        f"{message.status.value:<8} {message.kind.value:<14} {message.series}  {message.metric} "
        f"{message.actual:.4g}, expected {message.lower:.4g} to {message.upper:.4g}  strength {message.score:.2f}  "
        f"{printable(message.summary)}  [{printable(message.incident_id)}]"
    )


def printable(text: str) -> str:
    """The text without control characters: what others wrote must not steer the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)[:300]

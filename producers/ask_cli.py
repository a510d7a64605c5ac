"""`inferwatch ask`: one request, its answer, and the row in which it is stored; or what is missing, and why."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args

import click

from infra.answer_text import output_lines
from infra.durations import Duration
from infra.exit_codes import EXIT_NOT_ANSWERED, EXIT_TRY_AGAIN
from infra.ports import Record, RetryLater, TableReader
from infra.tail_cli import printable
from schemas.base import DecodeError, Identity, decode
from schemas.predictions import PREDICTION_KINDS, InferenceAnswered, InferenceFailed, Prediction, RequestShed
from schemas.requests import Task
from schemas.topics import PREDICTIONS, REQUESTS

ROW_SQL = (
    "SELECT * FROM requests WHERE cluster_id = {cluster_id:String} AND topic_id = {topic_id:String} "
    "AND partition = {partition:UInt32} AND offset = {offset:UInt64}"
)


class Reader(Protocol):
    """Where answers are read from: `KafkaTail`, or a test's own."""

    def poll(self, count_max: int, timeout_seconds: float) -> list[Record]:
        """Up to `count_max` records."""


class Cluster(Protocol):
    """What is asked of the cluster when no answer comes: `KafkaCluster`, or a test's own."""

    def ranges(self, topic: str) -> dict[int, tuple[int, int]]:
        """(first offset, next offset) of each partition."""

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """The group's next offsets."""


@dataclass
class Asked:
    """One request and all that was found of it."""

    request_id: str
    identity: Identity
    answer: Prediction | None = None
    answer_seconds: float = 0.0
    row: dict[str, Any] | None = None
    missing: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        answer = self.answer
        return {
            "request_id": self.request_id,
            "identity": self.identity.model_dump(mode="json"),
            "outcome": None if answer is None else outcome_of(answer),
            "answer": None if answer is None else answer.model_dump(mode="json", exclude_none=True),
            "answer_seconds": round(self.answer_seconds, 4),
            "row": self.row,
            "missing": self.missing,
        }

    @property
    def exit_code(self) -> int:
        """0 answered and stored, 1 failed or shed, 75 something did not come in time."""
        if self.missing:
            return EXIT_TRY_AGAIN
        return 0 if isinstance(self.answer, InferenceAnswered) else EXIT_NOT_ANSWERED


def outcome_of(answer: Prediction) -> str:
    """As in the table `requests`."""
    if isinstance(answer, InferenceAnswered):
        return "answered"
    return "failed" if isinstance(answer, InferenceFailed) else "shed"


def find_answer(
    reader: Reader, identity: Identity, *, seconds: float, monotonic: Callable[[], float] = time.monotonic
) -> Prediction | None:
    """The first prediction for a request, or None when none came in time. Others are passed over."""
    end = monotonic() + seconds
    while (left := end - monotonic()) > 0:
        for record in reader.poll(500, min(0.25, left)):
            try:
                answer = decode(record.headers, record.value, PREDICTION_KINDS).data
            except DecodeError:
                continue
            if isinstance(answer, InferenceAnswered | InferenceFailed | RequestShed) and answer.request == identity:
                return answer
    return None


def find_row(
    reader: TableReader,
    identity: Identity,
    *,
    seconds: float,
    monotonic: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = time.sleep,
) -> dict[str, Any] | None:
    """The request's row in table `requests`, or None when it was not there in time. Raises ValueError, RetryLater."""
    end = monotonic() + seconds
    while True:
        names, rows = reader.query(ROW_SQL, identity.model_dump())
        if rows:
            return dict(zip(names, rows[0], strict=True))
        if monotonic() >= end:
            return None
        wait(0.25)


def why_no_answer(cluster: Cluster, group: str, identity: Identity) -> str:
    """What Kafka knows about a request that was not answered: is it still waited for, how many more are owed."""
    try:
        ranges, committed = cluster.ranges(REQUESTS.name), cluster.committed(group, REQUESTS.name)
    except RetryLater as error:
        return f"Kafka does not say how far the workers are: {error}"
    owed = sum(max(0, after - max(first, committed.get(p, first))) for p, (first, after) in ranges.items())
    if not committed:
        return (
            f"consumer group {group} has never finished anything: is a worker running? (`inferwatch worker`, or "
            f"`make up`); {owed} requests are owed an answer"
        )
    if committed.get(identity.partition, 0) > identity.offset:
        return f"consumer group {group} is past it: look for it in {PREDICTIONS.name} and {REQUESTS.name}.dead-letters"
    return (
        f"consumer group {group} has not come to it: {owed} requests are owed an answer. No worker running "
        "(`inferwatch worker`), or too much work for it; a new worker also needs a while to load its model"
    )


@click.command()
@click.argument("text", nargs=-1, required=True)
@click.option("--scenario", default="search", show_default=True, help="What the answer is for.")
@click.option("--task", type=click.Choice(get_args(Task)), default="embed", show_default=True, help="What to compute.")
@click.option("--query", help="rerank: what the TEXTs are ranked by.")
@click.option("--max-tokens", type=click.IntRange(1, 4_096), help="generate: most tokens.")
@click.option("--key", help="Kafka key; default: none.")
@click.option(
    "--timeout",
    type=Duration(0.1, 3600),
    default="15s",
    show_default=True,
    help="For the answer, then again for its row.",
)
@click.option(
    "--group",
    envvar="INFERWATCH_WORKER_GROUP",
    default="inference-workers",
    show_default=True,
    help="Consumer group of the workers, to say how far they are.",
)
@click.option("--no-row", is_flag=True, help="Do not wait for the row in ClickHouse.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object: answer with its whole vector, row, what is missing."
)
def ask(
    text: tuple[str, ...],
    scenario: str,
    task: Task,
    query: str | None,
    max_tokens: int | None,
    key: str | None,
    timeout: float,
    group: str,
    no_row: bool,
    as_json: bool,
) -> None:
    """Send one request, show its answer and where it is stored. Several TEXTs are one request of several inputs.

    Exit code: 0 answered (and stored), 1 failed or shed, 75 something did not come in time: it says what.

    \b
    Example:
      inferwatch ask "red shoes"
      inferwatch ask "red shoes" --scenario recommendation --json | jq .row.score
      inferwatch ask "red shoes" "blue jeans" "shoe rack" --task rerank --query "crimson sneakers"
    """
    from infra.connect import clickhouse_connection, kafka_connection
    from infra.kafka import KafkaCluster, KafkaTail
    from producers.client import InvalidRequest, Producer

    kafka = kafka_connection()
    clickhouse = None if no_row else clickhouse_connection()
    cluster = KafkaCluster(kafka)
    tail = KafkaTail(kafka, [PREDICTIONS.name])  # before the request, so that its answer cannot be missed
    try:
        with Producer(kafka, source="inferwatch-ask") as producer:
            started = time.monotonic()
            inputs = text[0] if len(text) == 1 else text
            try:
                sent = producer.send(
                    inputs,
                    key=key,
                    scenario=scenario,
                    task=task,
                    query=query,
                    generation=None if max_tokens is None else {"max_tokens": max_tokens},
                    timeout_ms=max(1, round(timeout * 1000)),
                )
            except InvalidRequest as error:
                raise click.UsageError(str(error)) from None
            asked = Asked(sent.request_id, _delivered(sent.result, timeout))
        asked.answer = find_answer(tail, asked.identity, seconds=timeout)
        asked.answer_seconds = time.monotonic() - started
        if asked.answer is None:
            why = why_no_answer(cluster, group, asked.identity)
            asked.missing.append(f"no answer within {timeout:g} s: {why}")
        elif clickhouse is not None:
            _add_row(asked, clickhouse, timeout)
    finally:
        tail.close()
        cluster.close()
    click.echo(json.dumps(asked.as_json(), default=str) if as_json else show(asked, no_row=no_row))
    sys.exit(asked.exit_code)


def _delivered(result: Callable[[float], Identity], timeout: float) -> Identity:
    try:
        return result(timeout)
    except TimeoutError:
        raise RetryLater(f"Kafka did not take the request within {timeout:g} s") from None


def _add_row(asked: Asked, settings: Any, timeout: float) -> None:
    from infra.clickhouse import ClickHouse

    server = ClickHouse(settings)
    try:
        asked.row = find_row(server, asked.identity, seconds=timeout)
        if asked.row is None:
            asked.missing.append(
                f"no row in table requests within {timeout:g} s: is the score job running? (`inferwatch jobs score`)"
            )
    except ValueError as error:
        asked.missing.append(f"table requests cannot be asked: {error} (`inferwatch tables apply` makes the tables)")
    except RetryLater as error:
        asked.missing.append(f"the row could not be looked up: {error}")
    finally:
        server.close()


def show(asked: Asked, *, no_row: bool = False) -> str:
    """What was found, for people."""
    identity, answer = asked.identity, asked.answer
    lines = [
        f"request   {asked.request_id}",
        f"identity  {identity}   ({REQUESTS.name}, partition {identity.partition}, offset {identity.offset})",
    ]
    if answer is not None:
        lines += _answer_lines(answer, asked.answer_seconds)
    if asked.row is not None:
        lines += _row_lines(asked.row, identity)
    elif answer is not None and no_row:
        lines.append("stored    not asked for")
    lines += [f"missing   {text}" for text in asked.missing]
    return "\n".join(lines)


def _answer_lines(answer: Prediction, seconds: float) -> list[str]:
    head = f"answer    {outcome_of(answer)} by {answer.worker_id}, {seconds * 1000:.0f} ms after asking"
    if isinstance(answer, InferenceFailed):
        return [head, f"error     {printable(answer.error)}: {printable(answer.message)}"]
    if isinstance(answer, RequestShed):
        return [head, f"reason    {printable(answer.reason)} {printable(answer.message)}"]
    lines = [head, f"model     {answer.model.name}, version {answer.model.version}"]
    lines += [f"{line[:8]:<8}  {printable(line[9:])}" for line in output_lines(answer)]
    timings = answer.timings_ms
    lines.append(
        f"time      {timings.total:.1f} ms from append to answer: queue {timings.queue:.1f}, "
        f"tokenise {timings.tokenise:.1f}, compute {timings.compute:.1f}"
    )
    if answer.truncated:
        lines.append("note      an input was longer than the model reads and was cut")
    return lines


def _row_lines(row: dict[str, Any], identity: Identity) -> list[str]:
    shown = (
        "served_at",
        "outcome",
        "batch_size",
        "batch_reason",
        "tokens",
        "queue_ms",
        "compute_ms",
        "total_ms",
        "score",
    )
    facts = ", ".join(f"{name} {_short(row[name])}" for name in shown if name in row)
    sql = (
        f"SELECT * FROM requests WHERE topic_id = '{identity.topic_id}' AND partition = {identity.partition} "
        f"AND offset = {identity.offset}"
    )
    return [f"stored    requests: {facts}", f'          inferwatch query "{sql}"']


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

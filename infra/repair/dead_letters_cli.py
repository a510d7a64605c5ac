"""`inferwatch dead-letters`: what could not be used and why, and back with it once that is put right."""

from __future__ import annotations

import json
import sys
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from infra.exit_codes import EXIT_REFUSED, EXIT_TRY_AGAIN
from infra.moments import Moment
from infra.ports import RetryLater, TryAgain
from infra.progress_bar import progress_bar
from infra.repair.letters import LETTER_TOPICS, Filter, Letter, letters_in
from infra.tail_cli import printable
from schemas.base import Reason
from schemas.dead_letters import SUFFIX
from schemas.requeues import RecordRequeued

if TYPE_CHECKING:
    from infra.repair.kafka_logs import KafkaLogs
    from infra.repair.requeue import Result

LIST_MAX = 100
LETTERS_MAX = 10_000
LETTERS_BYTES_MAX = 256 * 1_048_576
"""Put back in one run: they are held in memory first, so that they can be counted before somebody says yes."""
BYTES_SHOWN = 2_048
DETAIL_SHOWN = 160

_FILTERS = (
    click.option(
        "--topic",
        type=click.Choice([topic.name.removesuffix(SUFFIX) for topic in LETTER_TOPICS]),
        help="Where the record lay first.",
    ),
    click.option("--reason", type=click.Choice([reason.value for reason in Reason]), help="See docs/topics.md."),
    click.option("--stage", help="Which part refused it: worker, jobs.score, ..."),
    click.option("--since", type=Moment(needs_zone=True), help="Buried since then: 1h (ago) or 2026-03-01T12:00:00Z."),
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@click.group("dead-letters")
def dead_letters() -> None:
    """Records that could not be used: list them, look at one, put them back after a fix.

    \b
    Example:
      inferwatch dead-letters list --since 1h
      inferwatch dead-letters show inference.requests/3/1742
      inferwatch dead-letters requeue --topic inference.requests --reason bad_value --dry-run
    """


@dead_letters.command("list")
@_filters
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=LIST_MAX, show_default=True, help="The newest so many."
)
@_JSON
def list_letters(
    topic: str | None, reason: str | None, stage: str | None, since: int | None, limit: int, as_json: bool
) -> None:
    """Show dead letters of all topics, the newest last, and count them by topic, stage and reason.

    A letter is named by where its record lay first: topic/partition/offset. With --json one object a line.

    \b
    Example:
      inferwatch dead-letters list --reason not_json --limit 20
    """
    wanted = Filter(None, topic, None if reason is None else Reason(reason), stage, since)
    from infra.repair import shown

    with _Kafka() as kafka:
        counts: Counter[tuple[str, str, str]] = Counter()
        newest: deque[dict[str, Any]] = deque(maxlen=limit)  # without their bytes
        foreign = 0
        for found in letters_in(kafka.logs.letters(wanted.topics()), wanted):
            if isinstance(found, Letter):
                counts[found.content.topic, found.content.stage, found.content.reason.value] += 1
                newest.append(shown.as_json(found, None))
            else:
                foreign += 1
        done = kafka.done()
    rows = sorted(newest, key=lambda row: int(row["appended_ms"]))
    for row in rows:
        back = done.get(row["requeue_id"])
        row["requeued_offset"] = None if back is None else back.offset
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
    else:
        _show_table(rows, counts)
    if foreign:
        click.echo(f"{foreign:,} records on these topics are no dead letters of ours: left out", err=True)


@dead_letters.command("show")
@click.argument("name", metavar="TOPIC/PARTITION/OFFSET")
@click.option(
    "--bytes", "bytes_max", type=click.IntRange(1), default=BYTES_SHOWN, show_default=True, help="Of the value."
)
@click.option("--hex", "as_hex", is_flag=True, help="Bytes as hexadecimal numbers, also where they are text.")
@_JSON
def show(name: str, bytes_max: int, as_hex: bool, as_json: bool) -> None:
    """Show one dead letter: reason, origin, headers and bytes, with everything escaped that would steer a terminal.

    It is named by where its record lay first, as `list` does it. Exit code 2 when there is none.

    \b
    Example:
      inferwatch dead-letters show inference.requests/3/1742 --hex
    """
    from infra.repair import shown

    with _Kafka() as kafka:
        letter = _the_one(kafka.logs, name)
        done = kafka.done().get(letter.requeue_id)
    if as_json:
        click.echo(json.dumps(shown.as_json(letter, done, bytes_max)))
    else:
        click.echo(shown.as_text(letter, done, bytes_max, as_hex=as_hex))


@dead_letters.command()
@click.argument("name", required=False, metavar="[TOPIC/PARTITION/OFFSET]")
@_filters
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_JSON
def requeue(
    name: str | None,
    topic: str | None,
    reason: str | None,
    stage: str | None,
    since: int | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Put one dead letter back on its topic, or all that the options choose. Once each, however often it is run.

    Key, value and headers are unchanged; two headers more say where it came from. A request gets a new offset and so is
    a new request: the old one stays dead-lettered in the books. Telemetry keeps the identities inside: its requests get
    their rows, unless another event has told of them. Docs: repairing.md.

    \b
    Examples:
      inferwatch dead-letters requeue inference.requests/3/1742
      inferwatch dead-letters requeue --topic inference.requests --reason unsupported --since 2h --yes

    \b
    Exit codes: 0 all are back, now or before; 65 some cannot be put back, and it says why; 75 another run is at it, or
    Kafka is away: run it again.
    """
    if (name is None) == (topic is None and reason is None and stage is None and since is None):
        raise click.UsageError("name one letter, or choose some with --topic, --reason, --stage or --since")
    wanted = Filter(name, topic, None if reason is None else Reason(reason), stage, since)
    with _Kafka() as kafka:
        letters = [_the_one(kafka.logs, name)] if name is not None else _chosen(kafka.logs, wanted)
        done = kafka.done()
        open_letters = [letter for letter in letters if letter.requeue_id not in done and letter.why_not is None]
        if dry_run:
            _say_plan(letters, done, as_json)
            return
        if open_letters and not yes:
            click.confirm(f"put {len(open_letters):,} of {len(letters):,} dead letters back?", abort=True, err=True)
        results = kafka.requeue(letters)
    _say_results(results, as_json)
    sys.exit(exit_code(results))


def exit_code(results: list[Result]) -> int:
    """0, EXIT_REFUSED or EXIT_TRY_AGAIN, see `requeue`."""
    from infra.repair.requeue import Fate

    fates = {result.fate for result in results}
    return EXIT_TRY_AGAIN if Fate.IN_PROGRESS in fates else EXIT_REFUSED if Fate.REFUSED in fates else 0


def _say_plan(letters: list[Letter], done: dict[str, RecordRequeued], as_json: bool) -> None:
    from infra.repair.shown import as_json as letter_json

    for letter in letters:
        before = done.get(letter.requeue_id)
        if as_json:
            click.echo(json.dumps(letter_json(letter, before)))
            continue
        plan = f"is back, offset {before.offset}" if before is not None else letter.why_not or "would be put back"
        click.echo(f"{letter.name}  {letter.content.reason.value}  {plan}")


def _say_results(results: list[Result], as_json: bool) -> None:
    if as_json:
        told = [
            {"name": one.letter.name, "fate": one.fate.value, "offset": one.offset, "why": one.why} for one in results
        ]
        counts = Counter(one.fate.value for one in results)
        click.echo(json.dumps({"counts": dict(counts), "letters": told}))
        return
    for one in results:
        where = "" if one.offset is None else f", offset {one.offset}"
        click.echo(f"{one.letter.name}  {one.fate.value.replace('_', ' ')}{where}{f': {one.why}' if one.why else ''}")
    if not results:
        click.echo("no dead letter is meant: nothing to do")


def _the_one(logs: KafkaLogs, name: str) -> Letter:
    wanted = Filter(name)
    if name.count("/") != 2 or not wanted.topics():
        raise click.UsageError(f"{name!r} names no dead letter: write TOPIC/PARTITION/OFFSET, as `list` does")
    found = [one for one in letters_in(logs.letters(wanted.topics()), wanted) if isinstance(one, Letter)]
    if not found:
        raise click.UsageError(f"there is no dead letter of {name}: `inferwatch dead-letters list` shows what there is")
    return found[-1]


def _chosen(logs: KafkaLogs, wanted: Filter) -> list[Letter]:
    found, size = [], 0
    for one in letters_in(logs.letters(wanted.topics()), wanted):
        if isinstance(one, Letter):
            found.append(one)
            size += len(one.content.value or b"") + len(one.content.key or b"")
        if len(found) > LETTERS_MAX or size > LETTERS_BYTES_MAX:
            raise click.UsageError(
                f"more than {LETTERS_MAX:,} letters or {LETTERS_BYTES_MAX >> 20} MiB are meant: choose fewer, such as "
                "with --since, one --topic or one --reason"
            )
    return found


def _show_table(rows: list[dict[str, Any]], counts: Counter[tuple[str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from infra.repair.shown import moment

    if not counts:
        click.echo("no dead letters")
        return
    table = Table(show_header=True, header_style="bold")
    for heading in ("record", "buried (UTC)", "stage", "reason", "why", "put back"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        back = "" if row["requeued_offset"] is None else f"offset {row['requeued_offset']}"
        cells = (
            row["name"],
            moment(row["appended_ms"]),
            row["stage"],
            row["reason"],
            row["detail"][:DETAIL_SHOWN],
            back,
        )
        table.add_row(*(Text(printable(text)) for text in cells))  # Text: no markup from data
    Console(soft_wrap=False).print(table)
    for (topic, stage, reason), count in sorted(counts.items()):
        click.echo(f"{count:>10,}  {topic}  {printable(stage)}  {reason}")
    if sum(counts.values()) > len(rows):
        click.echo(f"{sum(counts.values()):,} in all, the newest {len(rows):,} are shown: --limit shows more", err=True)


class _Kafka:
    """What the commands need of Kafka, released at the end."""

    def __enter__(self) -> _Kafka:
        from infra.clock import SystemClock
        from infra.connect import kafka_connection
        from infra.repair.kafka_logs import KafkaLogs

        self._settings, self._clock = kafka_connection(), SystemClock()
        self.logs = KafkaLogs(self._settings, self._clock)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RetryLater):
            raise TryAgain(str(error)) from None

    def done(self) -> dict[str, RecordRequeued]:
        """What was put back, by requeue id."""
        from infra.repair.requeue import Markers

        markers = Markers()
        markers.add(self.logs.markers(0))
        return markers.done

    def requeue(self, letters: list[Letter]) -> list[Result]:
        """Put them back."""
        from infra.kafka import KafkaPublisher
        from infra.repair.requeue import Requeue

        publisher = KafkaPublisher(self._settings, client_id="inferwatch-dead-letters", linger_ms=1.0)
        try:
            run = Requeue(publisher, self.logs, self._clock, uuid.uuid4().hex)
            run.read()
            return list(_noted(run.run(letters), len(letters)))
        finally:
            publisher.close(5.0)


def _noted(results: Iterator[Result], total: int) -> Iterator[Result]:
    """Progress on a terminal."""
    with progress_bar("putting back") as move:
        for done, result in enumerate(results, start=1):
            move(done, total)
            yield result

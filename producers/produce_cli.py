"""`inferwatch produce`: requests from a file or standard input onto Kafka; what is wrong is refused line by line."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import click

from infra.exit_codes import EXIT_INTERRUPTED, EXIT_REFUSED, EXIT_TRY_AGAIN
from infra.ports import InvalidRecord, RetryLater
from producers.client import InvalidRequest, Producer
from producers.pacing import Pace
from producers.read_input import SUFFIXES, Format, Layout, Refused, Request, WrongFile, read_requests
from schemas.base import Reason

FIRST_LINES = 5
FLUSH_SECONDS = 130.0
"""A little more than the publisher's own delivery timeout: afterwards nothing is pending any more."""
INTERRUPTED_FLUSH_SECONDS = 5.0


@dataclass
class Report:
    """What became of the lines. Deliveries are counted on the client's thread, the rest on ours."""

    sent: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    first_lines: dict[str, list[int]] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    delivered: int = 0
    failed: int = 0
    failed_lines: list[int] = field(default_factory=list)
    failure: str | None = None
    stopped: str | None = None
    seconds: float = 0.0

    def refuse(self, line: int, reason: str, detail: str) -> None:
        """Count a line that was not sent."""
        self.refused[reason] += 1
        lines = self.first_lines.setdefault(reason, [])
        if len(lines) < FIRST_LINES:
            lines.append(line)
        self.examples.setdefault(reason, detail)

    def settle(self, line: int, error: Exception | None) -> None:
        """Count a delivery."""
        if error is None:
            self.delivered += 1
            return
        self.failed += 1
        self.failure = self.failure or str(error)
        if len(self.failed_lines) < FIRST_LINES:
            self.failed_lines.append(line)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "sent": self.sent,
            "delivered": self.delivered,
            "failed": {"count": self.failed, "first_lines": self.failed_lines, "example": self.failure},
            "refused": {
                reason: {"count": count, "first_lines": self.first_lines[reason], "example": self.examples[reason]}
                for reason, count in self.refused.most_common()
            },
            "stopped": self.stopped,
            "seconds": round(self.seconds, 3),
        }

    @property
    def exit_code(self) -> int:
        """75 when something sent was not delivered or sending ended early, 65 when lines were refused, else 0."""
        if self.stopped is not None or self.delivered < self.sent:
            return EXIT_TRY_AGAIN
        return EXIT_REFUSED if self.refused else 0


def send_all(
    rows: Iterator[Request | Refused],
    producer: Producer,
    report: Report,
    *,
    rate: float | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = time.sleep,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Send every request, refuse every other line. Ends early when Kafka takes no more."""
    started = monotonic()
    pace = Pace(started)
    try:
        for row in rows:
            advance()
            if isinstance(row, Refused):
                report.refuse(row.line, row.reason.value, row.detail)
                continue
            if rate is not None:
                pause = pace.wait_seconds(report.sent / rate, monotonic())
                if pause > 0:
                    wait(pause)
            _send(row, producer, report)
    except RetryLater as error:
        report.stopped = str(error)
    except WrongFile as error:
        report.refuse(1, "wrong_file", str(error))
    finally:
        report.seconds = monotonic() - started


def _send(row: Request, producer: Producer, report: Report) -> None:
    line = row.line
    try:
        producer.send_request(row.request, key=row.key, on_delivery=lambda identity, error: report.settle(line, error))
    except (InvalidRequest, InvalidRecord) as error:
        report.refuse(line, Reason.BAD_VALUE.value, str(error))
    else:
        report.sent += 1


def show(report: Report, name: str) -> str:
    """The summary for people."""
    lines = [
        f"{name}: {report.sent} sent, {report.delivered} delivered, {report.refused.total()} refused "
        f"in {report.seconds:.1f} s"
    ]
    for reason, count in report.refused.most_common():
        first = ", ".join(map(str, report.first_lines[reason]))
        more = ", ..." if count > FIRST_LINES else ""
        lines.append(f"  refused {count} x {reason} (line {first}{more}): {report.examples[reason]}")
    if report.failed:
        lines.append(
            f"  not delivered {report.failed} (line {', '.join(map(str, report.failed_lines))}): {report.failure}"
        )
    if report.stopped is not None:
        lines.append(f"  ended early: {report.stopped}")
    return "\n".join(lines)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--format", "format_name", type=click.Choice([f.value for f in Format]), help="Default: by the file's ending."
)
@click.option("--column", default="input", show_default=True, help="CSV column or JSON field with the text.")
@click.option("--key-column", help="CSV column or JSON field with the key; requests of one key keep their order.")
@click.option("--scenario", help="For requests that name none: search, recommendation, ...")
@click.option("--rate", type=click.FloatRange(0, 1e6, min_open=True), help="At most so many requests a second.")
@click.option("--source", default="inferwatch-produce", show_default=True, help="CloudEvents source of the requests.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def produce(
    file: Path,
    format_name: str | None,
    column: str,
    key_column: str | None,
    scenario: str | None,
    rate: float | None,
    source: str,
    as_json: bool,
) -> None:
    """Send the requests in FILE (`-`: standard input) to inference.requests.

    JSON lines ({"input": "red shoes"}, further fields as in docs/schemas), CSV with a header row, or text with a
    request on each line. A line that is no request is refused with its number and does not stop the rest; blank lines
    are passed over. Standard input is JSON lines unless --format says otherwise.

    Exit code: 0 all delivered, 65 lines were refused (the rest was delivered), 75 something was not delivered,
    130 interrupted.

    \b
    Example:
      inferwatch produce queries.csv --column query --key-column user --scenario search
      echo "red shoes" | inferwatch produce - --format text
    """
    from infra.connect import kafka_connection

    layout = Layout(_format(file, format_name), column, key_column, scenario)
    _check_scenario(scenario)
    report, code = Report(), None
    producer = Producer(kafka_connection(), source=source).open()
    try:
        with _opened(file) as stream, _progress(file, stream, report) as advance:
            send_all(read_requests(stream, layout), producer, report, rate=rate, advance=advance)
            producer.flush(FLUSH_SECONDS)
    except KeyboardInterrupt:
        report.stopped, code = "interrupted", EXIT_INTERRUPTED
    finally:
        producer.close(INTERRUPTED_FLUSH_SECONDS)
    click.echo(json.dumps(report.as_json()) if as_json else show(report, str(file)))
    sys.exit(report.exit_code if code is None else code)


def _format(file: Path, name: str | None) -> Format:
    if name is not None:
        return Format(name)
    if str(file) == "-":
        return Format.JSONL
    found = SUFFIXES.get(file.suffix.lower())
    if found is None:
        raise click.UsageError(
            f"{file.name}: the ending {file.suffix!r} says nothing; add --format jsonl, --format csv or --format text"
        )
    return found


def _check_scenario(scenario: str | None) -> None:
    from pydantic import ValidationError

    from schemas.requests import InferenceRequested

    try:
        InferenceRequested(input="", scenario="search" if scenario is None else scenario)
    except ValidationError:
        raise click.BadParameter(
            f"{scenario!r}: lower case, digits, _ . -, at most 64", param_hint="--scenario"
        ) from None


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    with file.open("rb") as stream:
        yield stream


@contextlib.contextmanager
def _progress(file: Path, stream: BinaryIO, report: Report) -> Iterator[Callable[[], None]]:
    """A bar on standard error, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    total = None if str(file) == "-" else file.stat().st_size
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    seen = 0
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(str(file), total=total)

        def advance() -> None:
            nonlocal seen
            seen += 1
            if seen % 256 == 0:
                done = stream.tell() if total is not None else None
                bar.update(task, completed=done, description=f"{report.sent} sent, {report.refused.total()} refused")

        yield advance

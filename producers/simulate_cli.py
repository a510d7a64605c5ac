"""`inferwatch simulate`: live traffic for trials. Sends what `simulator` plans, when it is due, until told to end."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import click

from infra.durations import Duration
from infra.ports import Clock, InvalidRecord, Publisher, RetryLater
from producers.broken_requests import broken_record
from producers.client import Producer
from producers.pacing import Pace
from producers.sample_data import DataChoice
from producers.simulator import PlannedRequest, TrafficPolicy, plan
from schemas.topics import REQUESTS

LOG = logging.getLogger(__name__)
SOURCE = "inferwatch-simulator"
BLOCK_SECONDS = 1.0
"""Longest wait for room before a request counts as not accepted: a stop must not wait for a broker that is away."""
REST_SECONDS = 0.5
"""Pause after one that was not accepted."""
SLEEP_SECONDS_MAX = 0.5
EARLY_SECONDS = 0.002
"""Requests due so soon are sent at once: sleeping less costs more than it is worth."""
FLUSH_SECONDS = 5.0


@dataclass
class Summary:
    """What was sent. `failed` and `not_accepted` never reached Kafka, or nobody knows."""

    seed: int
    sent_good: int = 0
    sent_broken: Counter[str] = field(default_factory=Counter)
    delivered: int = 0
    failed: int = 0
    not_accepted: int = 0
    slipped_seconds: float = 0.0
    seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def settle(self, error: Exception | None) -> None:
        """Count a delivery, on the client's thread."""
        with self.lock:
            if error is None:
                self.delivered += 1
            else:
                self.failed += 1

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        sent = self.sent_good + self.sent_broken.total()
        return {
            "seed": self.seed,
            "sent": sent,
            "sent_good": self.sent_good,
            "sent_broken": dict(sorted(self.sent_broken.items())),
            "delivered": self.delivered,
            "failed": self.failed,
            "pending": sent - self.delivered - self.failed,
            "not_accepted": self.not_accepted,
            "requests_per_second": round(sent / self.seconds, 1) if self.seconds else 0.0,
            "slipped_seconds": round(self.slipped_seconds, 3),
            "seconds": round(self.seconds, 3),
        }


class Traffic:
    """Sends planned requests on time: the good ones through the client, the broken ones as raw records."""

    def __init__(self, producer: Producer, publisher: Publisher, clock: Clock, summary: Summary) -> None:
        self._producer, self._publisher, self._clock = producer, publisher, clock
        self.summary = summary

    def run(self, planned: Iterable[PlannedRequest], *, seconds: float | None, wait: Callable[[float], bool]) -> None:
        """Send until `seconds` have passed or `wait(seconds)` says True: told to end."""
        started = self._clock.monotonic()
        pace = Pace(started)
        for request in planned:
            if self._until_due(request, pace, wait, None if seconds is None else started + seconds):
                break
            try:
                self._send(request)
            except RetryLater as error:
                self.summary.not_accepted += 1
                LOG.warning("not accepted: %s", error)
                if wait(REST_SECONDS):
                    break
        self._publisher.flush(FLUSH_SECONDS)
        self.summary.slipped_seconds = pace.slipped_seconds
        self.summary.seconds = self._clock.monotonic() - started

    def _until_due(self, request: PlannedRequest, pace: Pace, wait: Callable[[float], bool], end: float | None) -> bool:
        """Wait until the request is due; True when it is time to end instead."""
        while True:
            now = self._clock.monotonic()
            if end is not None and now >= end:
                return True
            pause = pace.wait_seconds(request.due_seconds, now)
            if pause <= EARLY_SECONDS:
                return wait(0.0)
            if end is not None:
                pause = min(pause, end - now)
            if wait(min(pause, SLEEP_SECONDS_MAX)):
                return True

    def _send(self, request: PlannedRequest) -> None:
        request_id = request.request_id(self.summary.seed)
        if request.broken is None:
            self._producer.send_request(
                request.request,
                key=request.key,
                request_id=request_id,
                on_delivery=lambda identity, error: self.summary.settle(error),
            )
            self.summary.sent_good += 1
            return
        time_ = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        record = broken_record(request.broken, request.text, request_id=request_id, source=SOURCE, time=time_)
        try:
            self._publisher.publish(
                REQUESTS.name,
                record.value,
                key=request.key.encode(),
                headers=record.headers,
                on_delivery=lambda offset, error: self.summary.settle(error),
            )
        except InvalidRecord:
            LOG.exception("a broken request was refused at once")
            self.summary.not_accepted += 1
            return
        self.summary.sent_broken[request.broken.value] += 1


@click.command()
@click.option("--rate", type=click.FloatRange(0, 1e5, min_open=True), help="Scale the trace to this mean, requests/s.")
@click.option(
    "--speed",
    type=click.FloatRange(0, 1e5, min_open=True),
    default=1.0,
    show_default=True,
    help="Replay faster or slower; not with --rate.",
)
@click.option(
    "--smooth",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="0: the trace's own bursts; 1: evenly spaced.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=1, show_default=True, help="Same seed, same requests."
)
@click.option(
    "--for", "seconds", type=Duration(0.1), help="End after this time: 60s, 5m. Default: on Ctrl-C or SIGTERM."
)
@click.option(
    "--broken-share", type=click.FloatRange(0, 1), default=0.01, show_default=True, help="Share broken on purpose."
)
@click.option(
    "--recommendation-share",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Share of scenario recommendation; the rest is search.",
)
@click.option(
    "--data",
    type=click.Choice([str(one) for one in DataChoice]),
    default=str(DataChoice.SAMPLE),
    show_default=True,
    help="What ships with it, or INFERWATCH_DATA; auto: the full data where they are there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.pass_context
def simulate(
    ctx: click.Context,
    rate: float | None,
    speed: float,
    smooth: float,
    seed: int,
    seconds: float | None,
    broken_share: float,
    recommendation_share: float,
    data: str,
    as_json: bool,
) -> None:
    """Send real shopping queries at the arrival times of a real trace, again and again, until told to end.

    A seeded share is broken on purpose (broken JSON, wrong types, unknown versions, ...) and must end as dead letters.
    The seed is printed. When Kafka or this machine is too slow by more than a second the schedule slips: what is late
    is not sent in a burst. Queries and times are real but never met: see producers/samples/README.md.

    \b
    Example:
      inferwatch simulate --rate 250 --for 60s
      inferwatch simulate --speed 10 --broken-share 0.05 --seed 7 --json
    """
    if rate is not None and ctx.get_parameter_source("speed") is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError("--rate and --speed: give one of them")
    from infra.clock import SystemClock
    from infra.connect import kafka_connection
    from infra.kafka import KafkaPublisher
    from infra.logs import setup_logging
    from producers.client import request_topic
    from producers.sample_data import replay_of

    setup_logging("simulate", "WARNING")
    policy = TrafficPolicy(seed, rate, speed, smooth, broken_share, recommendation_share)
    replay, found = replay_of(DataChoice(data))
    click.echo(
        f"simulate: seed {seed}, {len(replay.queries)} queries, {len(replay.arrivals)} arrivals ({found})", err=True
    )
    settings = kafka_connection()
    topic = request_topic(settings)
    publisher = KafkaPublisher(settings, client_id=SOURCE)
    producer = Producer(source=SOURCE, publisher=publisher, topic=topic, block_seconds=BLOCK_SECONDS)
    summary = Summary(seed)
    try:
        with _stop_on_signal() as stop:
            Traffic(producer, publisher, SystemClock(), summary).run(
                plan(replay, policy), seconds=seconds, wait=stop.wait
            )
    finally:
        publisher.close(1.0)
    click.echo(json.dumps(summary.as_json()) if as_json else show(summary))
    sys.exit(0)


def show(summary: Summary) -> str:
    """The summary for people."""
    facts = summary.as_json()
    broken = ", ".join(f"{count} {kind}" for kind, count in facts["sent_broken"].items()) or "none"
    return (
        f"simulate: {facts['sent']} sent in {facts['seconds']:.1f} s ({facts['requests_per_second']:g}/s), "
        f"{facts['delivered']} delivered, {facts['failed']} failed, {facts['pending']} pending, "
        f"{facts['not_accepted']} not accepted\n"
        f"  good: {facts['sent_good']}; broken on purpose: {broken}\n"
        f"  seed {facts['seed']}; the schedule slipped by {facts['slipped_seconds']:.1f} s"
    )


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, so that the end is in order and has its summary."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Puts a numbered load on the request topic and follows both logs beside it: ours among whatever else is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from benchmarks.arrivals import Arrivals, due_seconds
from benchmarks.load_requests import Request
from benchmarks.log_span import answer_of, ends_of
from benchmarks.open_loop import Sent, send_open_loop
from benchmarks.step_log import StepLog
from infra.kafka import KafkaCluster, KafkaTail
from infra.ports import Record, RetryLater
from infra.settings import KafkaSettings
from producers.client import Producer
from schemas.topics import PREDICTIONS, REQUESTS

SOURCE = "inferwatch-load"
POLL_RECORDS = 1_000
POLL_SECONDS = 0.05
GATHER_SECONDS = 0.2
"""Latency is told by the log's own times: the reader may come late, and takes less of the machine so."""
KEYS = 997
FLUSH_SECONDS = 10.0
OWED_LEAST = 50
"""Fewer requests owed are no backlog, however low the rate."""


class LoadExchange:
    """A sender and a reader for load steps on one Kafka. A context manager.

    A request's number is in the name that its producer gives it (`ce_id`), so no list of identities is kept in
    between, and other people's traffic on the same topics does not count.
    """

    def __init__(self, kafka: KafkaSettings, requests: Sequence[Request], *, run: str) -> None:
        """`run`: a name that no other run has. Requests are sent one after the other, again from the start."""
        self._kafka, self._requests, self._run = kafka, requests, run
        self._producer = Producer(kafka, source=SOURCE, block_seconds=0.0)
        self._tails: list[KafkaTail] = []
        self._log = StepLog()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, name="load-reader", daemon=True)
        self._trouble: Exception | None = None
        self._step = ""
        self._steps = 0
        self.refused = 0

    def __enter__(self) -> Self:
        self._producer.open()
        cluster = KafkaCluster(self._kafka)
        for topic in (REQUESTS.name, PREDICTIONS.name):
            starts = {(topic, partition): after for partition, after in ends_of(cluster, topic).items()}
            tail = KafkaTail(self._kafka, [topic], start=starts, client_id=SOURCE, gather_seconds=GATHER_SECONDS)
            self._tails.append(tail)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._reader.join(10)
        self._producer.close(1.0)
        for tail in self._tails:
            tail.close()

    def run_step(
        self, arrivals: Arrivals, rate: float, seconds: float, seed: int, *, backlog_seconds: float = float("inf")
    ) -> Sent:
        """Send for so many seconds and wait until all is delivered. Cut short when more is owed than `backlog_seconds`
        of the rate. Raises RetryLater on broker trouble."""
        with self._lock:
            self._steps += 1
            self._log, self._step = StepLog(), f"{self._run}-{self._steps}"
        self.refused = 0
        due = due_seconds(arrivals, rate, seconds, seed).tolist()
        owed_max = max(OWED_LEAST, backlog_seconds * rate)
        sent = send_open_loop(
            due, self._send, monotonic=time.monotonic, wait=time.sleep, give_up=lambda: self.owed() > owed_max
        )
        self._producer.flush(FLUSH_SECONDS)
        return sent

    def wait_answered(self, count: int, seconds_max: float) -> StepLog:
        """Wait until `count` requests were seen and all are answered, or the time is over. The step's log, which
        nobody writes to any more."""
        deadline = time.monotonic() + seconds_max
        while time.monotonic() < deadline:
            with self._lock:
                if len(self._log.asked) >= count and self._log.owed == 0:
                    break
            time.sleep(POLL_SECONDS)
        with self._lock:
            found, self._log, self._step = self._log, StepLog(), ""
        return found

    def owed(self) -> int:
        """Requests of this step seen and not answered yet. Raises what the reader ran into."""
        if self._trouble is not None:
            raise self._trouble
        with self._lock:
            return self._log.owed

    def _send(self, number: int) -> None:
        try:
            self._producer.send(
                **self._requests[number % len(self._requests)],
                key=f"user-{number % KEYS}",
                request_id=f"{self._step}/{number}",
            )
        except RetryLater:  # no room: Kafka takes them more slowly than they are due
            self.refused += 1

    def _read(self) -> None:
        requests, predictions = self._tails
        try:
            while not self._closing.is_set():
                asked = requests.poll(POLL_RECORDS, POLL_SECONDS)
                answered = [answer_of(record) for record in predictions.poll(POLL_RECORDS, POLL_SECONDS)]
                with self._lock:
                    for record in asked:
                        number = number_of(record, self._step)
                        if number is not None:
                            self._log.note_request((record.partition, record.offset), number, record.timestamp_ms)
                    for answer in answered:
                        if answer is not None:
                            self._log.note_answer(answer)
        except Exception as error:  # raised again by the sending thread, which ends the run
            self._trouble = error


def number_of(record: Record, step: str) -> int | None:
    """The number of one of this step's own requests; None for any other record."""
    for name, value in record.headers:
        if name == "ce_id" and value is not None:
            found, _, number = value.decode("utf-8", "replace").rpartition("/")
            return int(number) if found == step and step and number.isdecimal() else None
    return None

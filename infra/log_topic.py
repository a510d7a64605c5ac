"""Puts log lines on the topic `inference.logs`, beside stderr. Never blocks who logs; counts what it loses.

A bounded queue and a thread of its own: a broker that is away, or a storm of lines, costs lines and nothing else.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from datetime import UTC, datetime

from infra.logs import Line, line_of
from infra.metrics import LOG_RECORDS_DROPPED
from infra.ports import Clock, Fatal, InvalidRecord, Publisher, RetryLater
from schemas.base import encode, headers_for
from schemas.logs import MESSAGE_CHARACTERS_MAX, LogWritten
from schemas.topics import LOGS

LOG = logging.getLogger(__name__)
QUEUE_LINES_MAX = 2_000
UNCONFIRMED_MAX = 500
"""Lines in the publisher's buffer, which the answers use too: lines must not fill it while the broker is away."""
SAY_SECONDS = 60.0
"""How often lost lines are said."""
FLUSH_LOOKS, LOOK_SECONDS = 20, 0.1
"""How long a flush waits at most: 2 s."""
CLOSED_TO = ("infra.kafka", "infra.log_topic", "confluent_kafka", "aiokafka", "faust", "mode")
"""Loggers whose lines stay on stderr: to publish what publishing logs would go round in circles."""


class TopicHandler(logging.Handler):
    """Publishes lines as `LogWritten`, keyed by the worker."""

    def __init__(self, publisher: Publisher, clock: Clock, worker_id: str, level: str = "INFO") -> None:
        """Starts the thread. Close it before the publisher."""
        super().__init__(level)
        self._publisher, self._clock, self._worker_id = publisher, clock, worker_id
        self._source = f"/inferwatch/workers/{worker_id}"
        self._began_ms = clock.now_ms()
        self._numbers = itertools.count()
        self._queue: queue.Queue[Line] = queue.Queue(QUEUE_LINES_MAX)
        self._room = threading.Condition()
        self._unconfirmed = 0
        self._closing = threading.Event()
        self._dropped = self._said = 0
        self._say_at = 0.0
        self._thread = threading.Thread(target=self._run, name="log-topic", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line. Never waits, never raises."""
        if record.name.startswith(CLOSED_TO) or threading.current_thread() is self._thread or self._closing.is_set():
            return
        try:
            self._queue.put_nowait(line_of(record))
        except queue.Full:
            self._drop("queue_full")
        except Exception:  # a line that cannot be formatted; as the other handlers do
            self.handleError(record)

    def flush(self) -> None:
        """Wait until what was logged is delivered, a moment at most."""
        with self._room:
            for _ in range(FLUSH_LOOKS):
                if not (self._unconfirmed or self._queue.unfinished_tasks) or self._closing.is_set():
                    return
                self._room.wait(LOOK_SECONDS)

    def close(self) -> None:
        """Deliver what is queued, a moment at most, and stop. May be called twice."""
        if not self._closing.is_set():
            self.flush()
            self._closing.set()
            self._thread.join(FLUSH_LOOKS * LOOK_SECONDS)
        super().close()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                line = self._queue.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                self._say_dropped()
                continue
            with self._room:
                while self._unconfirmed >= UNCONFIRMED_MAX and not self._closing.is_set():
                    self._room.wait(LOOK_SECONDS)
            try:
                self._publish(line)
            except Fatal:
                self._closing.set()  # the worker's own publishing meets the same and ends the process
            self._queue.task_done()
            with self._room:
                self._room.notify_all()
            self._say_dropped()

    def _publish(self, line: Line) -> None:
        with self._room:
            self._unconfirmed += 1
        try:
            event = self._event(line)
            headers = headers_for(
                event,
                event_id=f"{self._worker_id}/{self._began_ms}/{next(self._numbers)}",
                source=self._source,
                time=datetime.fromtimestamp(line.time_ms / 1000, UTC),
            )
            self._publisher.publish(
                LOGS.name, encode(event), key=self._worker_id.encode(), headers=headers, on_delivery=self._delivered
            )
        except (RetryLater, InvalidRecord) as error:
            self._delivered(None, error)
        except Fatal as error:
            self._delivered(None, error)
            raise
        except ValueError:  # the line makes no valid event
            self._drop("unpublishable")
            self._confirm()

    def _event(self, line: Line) -> LogWritten:
        return LogWritten.model_validate(
            {
                "time_ms": line.time_ms,
                "level": line.level,
                "logger": _text(line.logger, 200),
                "message": _text(line.message, MESSAGE_CHARACTERS_MAX),
                "worker_id": self._worker_id,
                "trace_id": line.trace_id or None,
                "stack": _text(line.stack[-MESSAGE_CHARACTERS_MAX:], MESSAGE_CHARACTERS_MAX),
                "fingerprint": line.fingerprint,
            }
        )

    def _delivered(self, offset: int | None, error: Exception | None) -> None:
        if error is not None:
            self._drop("not_delivered")
        self._confirm()

    def _confirm(self) -> None:
        with self._room:
            self._unconfirmed -= 1
            self._room.notify_all()

    def _drop(self, reason: str) -> None:
        with self._room:  # by who logs, by this thread and by the publisher's
            self._dropped += 1
        LOG_RECORDS_DROPPED.labels(reason).inc()

    def _say_dropped(self) -> None:
        now, dropped = self._clock.monotonic(), self._dropped  # once: more may be dropped while this is said
        if dropped > self._said and now >= self._say_at:
            LOG.warning("%d log lines did not reach %s", dropped - self._said, LOGS.name)
            self._said, self._say_at = dropped, now + SAY_SECONDS


def _text(text: str, characters_max: int) -> str:
    """As UTF-8 can say it (half a surrogate pair cannot), and not too long."""
    return text[:characters_max].encode("utf-8", "replace").decode()

"""Follows a control topic on a thread of its own: each record is applied in order, a broken one is a dead letter."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from infra.ports import Clock, Record, RetryLater
from schemas.base import DecodeError

LOG = logging.getLogger(__name__)
RETRY_SECONDS = 2.0
POLL_RECORDS_MAX = 100


class Tail(Protocol):
    """Reads a topic without a group."""

    def poll(self, count_max: int, timeout_seconds: float) -> list[Record]:
        """See `KafkaTail.poll`."""

    def close(self) -> None:
        """Release the connection."""


class TopicWatch:
    """Applies a topic's records until told to stop."""

    def __init__(
        self,
        name: str,
        open_tail: Callable[[], Tail],
        apply: Callable[[Record], None],
        clock: Clock,
        stop: threading.Event,
        on_broken: Callable[[Record, DecodeError], None],
        on_fatal: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        """`open_tail` may raise RetryLater; `apply` raises DecodeError for a record that cannot be used. `on_broken`
        gets such a record when it came after this watch began: what came before is its predecessors'. `on_fatal` is
        told what nobody foresaw; the watch ends then."""
        self._name, self._open_tail, self._apply = name, open_tail, apply
        self._clock, self._stop, self._on_broken, self._on_fatal = clock, stop, on_broken, on_fatal
        self._began_ms = clock.now_ms()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        try:
            self._follow()
        except BaseException as error:
            LOG.critical("nobody follows the topic of %s any more: %r", self._name, error, exc_info=error)
            self._on_fatal(error)

    def _follow(self) -> None:
        tail: Tail | None = None
        while not self._stop.is_set():
            try:
                if tail is None:
                    tail = self._open_tail()
                for record in tail.poll(POLL_RECORDS_MAX, 0.5):
                    self._take(record)
            except RetryLater as error:
                LOG.info("the topic of %s is away, trying again: %s", self._name, error)
                self._stop.wait(RETRY_SECONDS)
        if tail is not None:
            tail.close()

    def _take(self, record: Record) -> None:
        try:
            self._apply(record)
        except DecodeError as error:
            LOG.warning("%s: the record at offset %d cannot be used: %s", self._name, record.offset, error)
            if record.timestamp_ms >= self._began_ms:
                self._hand_over(record, error)

    def _hand_over(self, record: Record, error: DecodeError) -> None:
        while not self._stop.is_set():
            try:
                self._on_broken(record, error)
                return
            except RetryLater as away:
                LOG.info("the dead letter of %s has to wait: %s", self._name, away)
                self._stop.wait(RETRY_SECONDS)

"""A request on its way, and how sending one can fail.

ValueError
  InvalidRequest        wrong, never accepted, nothing was sent
infra.ports.RetryLater  no room, or Kafka is away
  NotDelivered          handed over but not confirmed
infra.ports.InvalidRecord  Kafka refused it for good
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any

from infra.ports import RetryLater
from schemas.base import Identity

OnDelivery = Callable[[Identity | None, Exception | None], None]
"""Called once per request with (identity, None) or (None, error), on the client's own thread: be quick."""


class InvalidRequest(ValueError):
    """The request can never be accepted. The text names each wrong field and why; nothing was sent."""


class NotDelivered(RetryLater):
    """Kafka did not confirm the request in time: it may or may not be there. Send it again with the same
    `request_id`; if both arrived, both are answered under that id."""


class SentRequest:
    """A request on its way. Await it, or call `result`, for its identity once Kafka has it durably."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self._future: Future[Identity] = Future()
        # A waiter that is cancelled must not cancel the request: it is on its way.
        self._future.set_running_or_notify_cancel()

    def result(self, timeout: float | None = None) -> Identity:
        """Wait for the identity, at most `timeout` seconds (None: as long as it takes).

        Raises TimeoutError when it is still on its way, NotDelivered or infra.ports.InvalidRecord when it failed.
        """
        return self._future.result(timeout)

    def done(self) -> bool:
        """Whether it is delivered or failed."""
        return self._future.done()

    def __await__(self) -> Generator[Any, None, Identity]:
        return asyncio.wrap_future(self._future).__await__()

    def settle(self, identity: Identity | None, error: Exception | None) -> None:
        """For the producer: the request is durable, or failed."""
        if identity is not None:
            self._future.set_result(identity)
        else:
            self._future.set_exception(error or NotDelivered("no reason was given"))

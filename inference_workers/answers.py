"""What the worker publishes: answers, failures, shed requests and telemetry as records with their headers. No I/O."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime

from inference_workers.admission import Asked
from inference_workers.compute import Fault
from inference_workers.telemetry import bounded_ms
from infra.outbox import Outgoing
from schemas.base import KEY_BYTES_MAX, VALUE_BYTES_MAX, encode, headers_for
from schemas.predictions import InferenceAnswered, InferenceFailed, Output, Prediction, RequestShed, Timings
from schemas.telemetry import InferenceServed
from schemas.topics import PREDICTIONS, TELEMETRY

HEADERS_BYTES_MAX = 8_192
"""Upper bound of an answer's headers: seven short ones, an identity and a trace."""
ANSWER_BYTES_MAX = VALUE_BYTES_MAX - KEY_BYTES_MAX - HEADERS_BYTES_MAX
"""Leaves room for the key and headers within the topic's largest message."""
ANSWER_TOO_LARGE = Fault("answer_too_large", "the answer does not fit a record: ask for fewer inputs at once", "")


class Answers:
    """Makes the records that answer requests: on the request's partition, under its key, named by its identity."""

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._source = f"/inferwatch/workers/{worker_id}"
        self._events = itertools.count()

    def answered(
        self, one: Asked, outputs: list[Output], times: Timings, now_ms: int, *, truncated: bool, cached: bool
    ) -> Outgoing | None:
        """The answer, or None when it does not fit a record."""
        # Every field comes from what was validated or computed here; a test decodes what this makes.
        answered = InferenceAnswered.model_construct(
            request=one.identity,
            request_id=one.request_id,
            scenario=one.scenario,
            task=one.wanted.task,
            worker_id=self._worker_id,
            model=one.route.ref,
            outputs=outputs,
            timings_ms=times,
            truncated=truncated,
            cached=cached,
        )
        outgoing = self._record(one, answered, now_ms)
        return outgoing if len(outgoing.value) <= ANSWER_BYTES_MAX else None

    def failed(self, one: Asked, fault: Fault, now_ms: int) -> Outgoing:
        """A request that could not be computed."""
        failed = InferenceFailed(
            request=one.identity,
            request_id=one.request_id,
            scenario=one.scenario,
            task=one.wanted.task,
            worker_id=self._worker_id,
            model=one.route.ref,
            error=fault.code,
            message=fault.message,
            fingerprint=fault.fingerprint,
        )
        return self._record(one, failed, now_ms)

    def refusal_of(self, one: Asked, now_ms: int) -> Callable[[], Outgoing]:
        """What to publish when the broker refuses the answer for good."""
        return lambda: self.failed(one, ANSWER_TOO_LARGE, now_ms)

    def shed(self, one: Asked, reason: str, message: str, now_ms: int) -> Outgoing:
        """A request that was given up on purpose."""
        shed = RequestShed(
            request=one.identity,
            request_id=one.request_id,
            scenario=one.scenario,
            task=one.wanted.task,
            worker_id=self._worker_id,
            reason=reason,
            message=message[:2_000],
        )
        return self._record(one, shed, now_ms)

    def telemetry(self, event: InferenceServed, now_ms: int) -> Outgoing:
        """What was done, for the same-numbered partition of the telemetry topic."""
        first, last = event.requests.offset[0], event.requests.offset[-1]
        place = f"{event.cluster_id}/{event.topic_id}/{event.partition}"
        event_id = f"{place}/{first}-{last}/{self._worker_id}/{next(self._events)}"
        headers = headers_for(event, event_id=event_id[:512], source=self._source, time=_time(now_ms))
        return Outgoing(TELEMETRY.name, encode(event), None, event.partition, headers)

    def _record(self, one: Asked, message: Prediction, now_ms: int) -> Outgoing:
        headers = headers_for(
            message, event_id=str(one.identity), source=self._source, time=_time(now_ms), traceparent=one.traceparent
        )
        return Outgoing(PREDICTIONS.name, encode(message), one.key, one.identity.partition, headers)


def timings(queue_ms: float, tokenise_ms: float, compute_ms: float, total_ms: float) -> Timings:
    """Where the time went, bounded to what a message may say."""
    return Timings.model_construct(
        queue=bounded_ms(queue_ms),
        tokenise=bounded_ms(tokenise_ms),
        compute=bounded_ms(compute_ms),
        total=bounded_ms(total_ms),
    )


def _time(now_ms: int) -> datetime:
    return datetime.fromtimestamp(now_ms / 1000, UTC)

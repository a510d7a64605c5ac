"""What the worker publishes: answers, failures, shed requests and telemetry as records with their headers. No I/O."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime

from inference_workers.admission import Ready
from inference_workers.compute import Fault, Vector
from inference_workers.tasks.embed import embeddings_of
from inference_workers.telemetry import BatchFacts, bounded_ms
from infra.outbox import Outgoing
from schemas.base import KEY_BYTES_MAX, VALUE_BYTES_MAX, encode, headers_for
from schemas.predictions import InferenceAnswered, InferenceFailed, ModelRef, Prediction, RequestShed, Timings
from schemas.telemetry import InferenceServed
from schemas.topics import PREDICTIONS, TELEMETRY

HEADERS_BYTES_MAX = 8_192
"""Upper bound of an answer's headers: seven short ones, an identity and a trace."""
ANSWER_BYTES_MAX = VALUE_BYTES_MAX - KEY_BYTES_MAX - HEADERS_BYTES_MAX
"""Leaves room for the key and headers within the topic's largest message."""
ANSWER_TOO_LARGE = Fault("answer_too_large", "the answer does not fit a record: ask for fewer inputs at once", "")


class Answers:
    """Makes the records that answer requests: on the request's partition, under its key, named by its identity."""

    def __init__(self, worker_id: str, model: ModelRef) -> None:
        self._worker_id = worker_id
        self._model = model
        self._source = f"/inferwatch/workers/{worker_id}"
        self._events = itertools.count()

    def of_result(
        self, one: Ready, result: Vector | Fault, batch: BatchFacts, queue_ms: float, now_ms: int
    ) -> tuple[Outgoing, Fault | None]:
        """The answer, or the failure and its fault."""
        if isinstance(result, Fault):
            return self.failed(one, result, now_ms), result
        answered = InferenceAnswered(
            request=one.identity,
            request_id=one.request_id,
            scenario=one.scenario,
            task=one.task,
            worker_id=self._worker_id,
            model=self._model,
            outputs=embeddings_of(result.vectors),
            timings_ms=Timings(
                queue=bounded_ms(queue_ms),
                tokenise=bounded_ms(one.tokenise_ms),
                compute=bounded_ms(batch.compute_ms),
                total=bounded_ms(now_ms - one.appended_ms),
            ),
            truncated=one.truncated,
        )
        outgoing = self._record(one, answered, now_ms)
        if len(outgoing.value) > ANSWER_BYTES_MAX:
            return self.failed(one, ANSWER_TOO_LARGE, now_ms), ANSWER_TOO_LARGE
        return outgoing, None

    def failed(self, one: Ready, fault: Fault, now_ms: int) -> Outgoing:
        """A request that could not be computed."""
        failed = InferenceFailed(
            request=one.identity,
            request_id=one.request_id,
            scenario=one.scenario,
            task=one.task,
            worker_id=self._worker_id,
            model=self._model,
            error=fault.code,
            message=fault.message,
            fingerprint=fault.fingerprint,
        )
        return self._record(one, failed, now_ms)

    def refusal_of(self, one: Ready, now_ms: int) -> Callable[[], Outgoing]:
        """What to publish when the broker refuses the answer for good."""
        return lambda: self.failed(one, ANSWER_TOO_LARGE, now_ms)

    def shed(self, one: Ready, reason: str, now_ms: int) -> Outgoing:
        """A request that was given up on purpose."""
        late = now_ms - (one.waiting.deadline_ms or now_ms)
        shed = RequestShed(
            request=one.identity,
            request_id=one.request_id,
            scenario=one.scenario,
            task=one.task,
            worker_id=self._worker_id,
            reason=reason,
            message=f"its deadline passed {late} ms before it could be computed" if reason == "expired" else "",
        )
        return self._record(one, shed, now_ms)

    def telemetry(self, event: InferenceServed, now_ms: int) -> Outgoing:
        """What was done, for the same-numbered partition of the telemetry topic."""
        first, last = event.requests.offset[0], event.requests.offset[-1]
        place = f"{event.cluster_id}/{event.topic_id}/{event.partition}"
        event_id = f"{place}/{first}-{last}/{self._worker_id}/{next(self._events)}"
        headers = headers_for(event, event_id=event_id[:512], source=self._source, time=_time(now_ms))
        return Outgoing(TELEMETRY.name, encode(event), None, event.partition, headers)

    def _record(self, one: Ready, message: Prediction, now_ms: int) -> Outgoing:
        headers = headers_for(
            message, event_id=str(one.identity), source=self._source, time=_time(now_ms), traceparent=one.traceparent
        )
        return Outgoing(PREDICTIONS.name, encode(message), one.key, one.identity.partition, headers)


def _time(now_ms: int) -> datetime:
    return datetime.fromtimestamp(now_ms / 1000, UTC)

"""What the worker publishes: answers, failures, shed requests and telemetry as records with their headers. No I/O."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from inference_workers.admission.requests import Asked
from inference_workers.batching.compute import Fault
from inference_workers.telemetry.served_page import Served, bounded_ms
from infra.outbox import Outgoing
from infra.traces import RandomBits, child_of
from schemas.base import KEY_BYTES_MAX, VALUE_BYTES_MAX, Identity, encode
from schemas.header_template import HeaderTemplate
from schemas.predictions import InferenceAnswered, InferenceFailed, ModelRef, Prediction, RequestShed
from schemas.telemetry import InferenceServed
from schemas.topics import PREDICTIONS, TELEMETRY

HEADERS_BYTES_MAX = 8_192
"""Upper bound of an answer's headers: seven short ones, an identity and a trace."""
ANSWER_BYTES_MAX = VALUE_BYTES_MAX - KEY_BYTES_MAX - HEADERS_BYTES_MAX
"""Leaves room for the key and headers within the topic's largest message."""
ANSWER_TOO_LARGE = Fault("answer_too_large", "the answer does not fit a record: ask for fewer inputs at once", "")


MODELS_KEPT_MAX = 1_000


class Answers:
    """Makes the records that answer requests: on the request's partition, under its key, named by its identity."""

    def __init__(self, worker_id: str, random_bits: RandomBits) -> None:
        """`random_bits` makes the answers' spans."""
        self._worker_id, self._random_bits = worker_id, random_bits
        self._source = f"/inferwatch/workers/{worker_id}"
        self._events = itertools.count()
        self._answered = HeaderTemplate(InferenceAnswered, self._source)
        self._served = HeaderTemplate(InferenceServed, self._source)
        self._models: dict[int, tuple[ModelRef, dict[str, Any]]] = {}  # by id(): the reference keeps the id its own

    def answered(
        self,
        one: Asked,
        outputs: Sequence[dict[str, Any]],
        timings_ms: Mapping[str, float],
        now_ms: int,
        *,
        truncated: bool,
        cached: bool,
    ) -> Outgoing | None:
        """The answer, or None when it does not fit a record. `outputs` and `timings_ms` as in `InferenceAnswered`."""
        # Every field was validated or computed here, and most of the worker's answers pass: no model in between. A
        # test decodes what this makes.
        answered = {
            "request": one.identity._asdict(),
            "request_id": one.request_id,
            "scenario": one.scenario,
            "task": one.wanted.task,
            "worker_id": self._worker_id,
            "model": self._model(one.route.ref),
            "outputs": outputs,
            "timings_ms": timings_ms,
            "truncated": truncated,
            "cached": cached,
        }
        value = orjson.dumps(answered)
        if len(value) > ANSWER_BYTES_MAX:
            return None
        return self._outgoing(one, self._answered, value, now_ms)

    def _model(self, ref: ModelRef) -> dict[str, Any]:
        found = self._models.get(id(ref))
        if found is None:
            if len(self._models) >= MODELS_KEPT_MAX:
                self._models.clear()
            found = self._models[id(ref)] = ref, ref.model_dump(mode="json")
        return found[1]

    def failed(self, one: Asked, fault: Fault, now_ms: int) -> Outgoing:
        """A request that could not be computed."""
        failed = InferenceFailed(
            request=Identity(**one.identity._asdict()),
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

    def shed(self, one: Asked, reason: str, message: str, now_ms: int) -> Outgoing:
        """A request that was given up on purpose."""
        shed = RequestShed(
            request=Identity(**one.identity._asdict()),
            request_id=one.request_id,
            scenario=one.scenario,
            task=one.wanted.task,
            worker_id=self._worker_id,
            reason=reason,
            message=message[:2_000],
        )
        return self._record(one, shed, now_ms)

    def telemetry(self, event: Served, now_ms: int) -> Outgoing:
        """What was done, for the same-numbered partition of the telemetry topic."""
        offsets, place = event.column("offset"), event.place
        where = f"{place.cluster_id}/{place.topic_id}/{place.partition}"
        event_id = f"{where}/{offsets[0]}-{offsets[-1]}/{self._worker_id}/{next(self._events)}"
        headers = self._served.headers(event_id[:512], now_ms)
        return Outgoing(TELEMETRY.name, event.as_json(), None, place.partition, headers)

    def _record(self, one: Asked, message: Prediction, now_ms: int) -> Outgoing:
        return self._outgoing(one, HeaderTemplate(type(message), self._source), encode(message), now_ms)

    def _outgoing(self, one: Asked, template: HeaderTemplate, value: bytes, now_ms: int) -> Outgoing:
        headers = template.headers(str(one.identity), now_ms, child_of(one.traceparent, self._random_bits))
        return Outgoing(PREDICTIONS.name, value, one.key, one.identity.partition, headers)


def timings(queue_ms: float, tokenise_ms: float, compute_ms: float, total_ms: float) -> dict[str, float]:
    """Where the time went, as `schemas.predictions.Timings`, bounded to what a message may say."""
    return {
        "queue": bounded_ms(queue_ms),
        "tokenise": bounded_ms(tokenise_ms),
        "compute": bounded_ms(compute_ms),
        "total": bounded_ms(total_ms),
    }

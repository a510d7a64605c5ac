"""The models of one worker: its own, those that deployments ask for, and what is published about each."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from inference_workers.deployments.control import Tail, TopicWatch
from inference_workers.deployments.routing import Route
from inference_workers.deployments.switching import Deployments, ModelListener
from inference_workers.loading.load import Loaded
from inference_workers.loading.preflight import ModelWanted
from inference_workers.models.servable import Servable
from inference_workers.models.verdicts import LoadFacts, LoadingStopped, ModelRefused, judged
from inference_workers.worker.loop import Models
from infra.ports import Clock, Publisher, RangeReader, Record, Silence
from infra.record_ranges import records_between
from infra.unique_ids import uuid7
from schemas.base import DecodeError, decode, encode, headers_for
from schemas.deployments import DEPLOYMENT_KINDS, Arm, ModelJudged, Verdict
from schemas.predictions import ModelRef
from schemas.topics import DEPLOYMENTS, MODEL_EVENTS

LOG = logging.getLogger(__name__)
LoadModel = Callable[[ModelWanted], Loaded]


class Fleet:
    """Loads models when deployments ask for them and says on `model.events` what became of each."""

    def __init__(
        self,
        own: Loaded,
        load: LoadModel,
        publisher: Publisher,
        clock: Clock,
        worker_id: str,
        random_bytes: Callable[[], bytes],
    ) -> None:
        """`random_bytes` gives what an event's id is made of."""
        self._load_model, self._publisher, self._clock = load, publisher, clock
        self._worker_id, self._random_bytes = worker_id, random_bytes
        self._facts: dict[int, LoadFacts] = {id(own.servable): own.facts}  # by id() of the servable
        listener = ModelListener(ready=self._ready, refused=self._refused, retired=self._retired)
        self.deployments = Deployments(own.servable, self._load, listener)
        self._publish(judged(worker_id, own.facts))

    @property
    def models(self) -> Models:
        """What the loop needs: new tables, and where to bring models that it uses no more."""
        return Models(self.deployments.take, self.deployments.retire)

    def read_held(
        self, reader: RangeReader, held: tuple[int, int], on_broken: Callable[[Record, DecodeError], None]
    ) -> int:
        """Apply the deployments that hold already, before the group is joined: what a worker answers first is right.

        Reads the range `held` of the topic and returns the offset to follow it from: its end, or where the records
        stopped coming. Only the last record of a scenario that can be read counts, for each costs the loading of
        models, and workers that run have passed the others over. Raises RetryLater, and LoadingStopped when the process
        is told to stop.
        """
        last: dict[bytes | None, Record] = {}
        next_offset, end_offset = held
        try:
            for record in records_between(reader, DEPLOYMENTS.name, 0, next_offset, end_offset):
                next_offset = record.offset + 1
                try:
                    if record.value is not None:
                        decode(record.headers, record.value, DEPLOYMENT_KINDS)
                except DecodeError as error:
                    _pass_over(record, error, on_broken)
                    continue
                last.pop(record.key, None)
                last[record.key] = record
            next_offset = end_offset
        except Silence as error:
            LOG.warning("not all deployments came in time, the worker begins without the others: %s", error)
        for record in last.values():
            try:
                self.deployments.apply(record)
            except DecodeError as error:
                _pass_over(record, error, on_broken)
        return next_offset

    def follow(
        self,
        open_tail: Callable[[], Tail],
        stop: threading.Event,
        on_broken: Callable[[Record, DecodeError], None],
    ) -> None:
        """Apply deployments as they come, on a thread of its own."""
        fail = self.deployments.fail
        TopicWatch("deployments", open_tail, self._apply, self._clock, stop, on_broken, fail)

    def _apply(self, record: Record) -> None:
        try:
            self.deployments.apply(record)
        except LoadingStopped:
            LOG.info("the deployment at offset %d is left to who starts next: this worker stops", record.offset)

    def _load(self, arm: Arm) -> Servable:
        loaded = self._load_model(ModelWanted.of_arm(arm))
        self._facts[id(loaded.servable)] = loaded.facts
        return loaded.servable

    def _ready(self, scenario: str, routes: Sequence[Route]) -> None:
        for route in routes:
            self._tell(route.servable, route.ref, [scenario], Verdict.READY)

    def _retired(self, servable: Servable) -> None:
        self._tell(servable, servable.ref, [], Verdict.RETIRED)
        self._facts.pop(id(servable), None)

    def _refused(self, arm: Arm, scenario: str, error: ModelRefused) -> None:
        facts = error.facts or LoadFacts(ModelRef(name=arm.model_name, version=arm.version), arm.model)
        facts.ref = facts.ref.model_copy(update={"arm": arm.arm})
        self._publish(judged(self._worker_id, facts, refusal=error, scenarios=[scenario]))

    def _tell(self, servable: Servable, ref: ModelRef, scenarios: Sequence[str], verdict: Verdict) -> None:
        facts = self._facts.get(id(servable))
        if facts is None:
            return  # told already
        event = judged(self._worker_id, facts, scenarios=scenarios, verdict=verdict)
        self._publish(event.model_copy(update={"model": ref}))

    def _publish(self, event: ModelJudged) -> None:
        publish_verdict(event, self._publisher, self._clock, self._random_bytes)


def _pass_over(record: Record, error: DecodeError, on_broken: Callable[[Record, DecodeError], None]) -> None:
    LOG.warning("deployments: the record at offset %d cannot be used: %s", record.offset, error)
    on_broken(record, error)


def publish_verdict(event: ModelJudged, publisher: Publisher, clock: Clock, random_bytes: Callable[[], bytes]) -> None:
    """Hand a verdict over for `model.events`; `random_bytes` gives what its id is made of.

    Best effort: what goes wrong is logged, for an event that is lost is no reason to serve no more.
    """
    now_ms = clock.now_ms()
    headers = headers_for(
        event,
        event_id=uuid7(now_ms, random_bytes()),
        source=f"/inferwatch/workers/{event.worker_id}",
        time=datetime.fromtimestamp(now_ms / 1000, UTC),
    )
    try:
        publisher.publish(
            MODEL_EVENTS.name,
            encode(event),
            key=event.worker_id.encode(),
            headers=headers,
            on_delivery=_log_failure,
        )
    except Exception as error:
        LOG.warning("the event about %s %s could not be sent: %s", event.model.name, event.model.version, error)


def _log_failure(offset: int | None, error: Exception | None) -> None:
    if error is not None:
        LOG.warning("an event about a model was not delivered: %s", error)

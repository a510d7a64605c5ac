"""Fills the worker's metrics, many requests at a time: from each batch, and from telemetry events. No I/O.

The events say everything in columns already: to count from them costs a tenth of counting requests as they pass.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference_workers.deployments.routing import RoutingTable
from inference_workers.telemetry.served_page import ANSWERED, OUTCOMES, BatchFacts, Served
from infra import metrics
from schemas.predictions import ModelRef
from schemas.telemetry import Outcome

MODELS_MAX, SCENARIOS_MAX, ERRORS_MAX = 32, 64, 50
"""Label values counted apart. Producers choose scenarios, models raise errors of any name: the rest is `other`."""
OWN_CODES = frozenset(
    {
        "answer_too_large",
        "bad_embedding",
        "compute_error",
        "dimension_mismatch",
        "expired",
        "image_error",
        "image_media_type",
        "image_not_found",
        "image_outside_folder",
        "image_timeout",
        "image_too_large",
        "image_undecodable",
        "images_not_served",
        "non_finite_output",
        "out_of_memory",
        "over_limit",
        "tokenise_error",
        "unsupported_input",
        "unsupported_task",
        "wrong_shape",
    }
)
"""Why the worker itself sheds a request or says that it failed. Counted apart whatever else models raise."""
OTHER = "other"
ALL_SCENARIOS = "*"


class Names:
    """Lets so many different names through, and those of `always` beside; later ones become `other`. Pure."""

    def __init__(self, count_max: int, always: Collection[str] = ()) -> None:
        self._count_max = count_max + len(always)
        self._known: set[tuple[str, ...]] = {(name,) for name in always}

    def bounded(self, *names: str) -> tuple[str, ...]:
        """The names, or `other` as often."""
        if names in self._known:
            return names
        if len(self._known) >= self._count_max:
            return (OTHER,) * len(names)
        self._known.add(names)
        return names

    def forget(self, *names: str) -> None:
        """Make room: these are used no more."""
        self._known.discard(names)


Rows = npt.NDArray[np.bool_]
"""Which rows of an event are meant."""


@dataclass(frozen=True, slots=True)
class _Table:
    total: npt.NDArray[np.float64]
    queue: npt.NDArray[np.float64]
    batched: Rows
    answered: Rows
    inputs: npt.NDArray[np.int64]
    hits: npt.NDArray[np.float64] | None
    outcomes: npt.NDArray[np.int64]
    errors: dict[int, str]

    def hits_of(self, rows: Rows) -> int:
        """How many inputs of these rows the cache held."""
        return 0 if self.hits is None else int(self.hits[rows].sum())


class WorkerMeters:
    """Used by the loop's thread."""

    def __init__(self) -> None:
        self._models = Names(MODELS_MAX)
        self._scenarios = Names(SCENARIOS_MAX)
        self._errors = Names(ERRORS_MAX, OWN_CODES)

    def batches(self, batches: Sequence[BatchFacts]) -> None:
        """Batches that are answered; their `post_ms` are known."""
        of_model: dict[int, list[BatchFacts]] = {}
        for facts in batches:
            of_model.setdefault(id(facts.model), []).append(facts)
        for those in of_model.values():
            ref = those[0].model
            model = self._models.bounded(ref.name, ref.version)
            compute_seconds = [one.compute_ms / 1000 for one in those]
            metrics.TOKENISE_SECONDS.labels(*model).observe_all([one.tokenise_ms / 1000 for one in those])
            metrics.COMPUTE_SECONDS.labels(*model).observe_all(compute_seconds)
            metrics.POST_SECONDS.labels(*model).observe_all([one.post_ms / 1000 for one in those])
            metrics.BATCH_REQUESTS.labels(*model).observe_all([one.size for one in those])
            for reason, count in Counter(str(one.reason) for one in those).items():
                metrics.BATCHES.labels(*model, reason).inc(count)
            metrics.TOKENS.labels(*model).inc(sum(one.tokens for one in those))
            metrics.PADDED_TOKENS.labels(*model).inc(sum(one.padded_tokens for one in those))
            metrics.COMPUTE_BUSY_SECONDS.labels(*model).inc(sum(compute_seconds))
            metrics.BATCH_MEMORY_BYTES.labels(*model).set(those[-1].memory_bytes)

    def served(self, events: Sequence[Served]) -> int:
        """Outcomes of requests. Returns how many of them the model or the cache worked on. Many events at once cost
        less than one by one."""
        if not events:
            return 0
        labels: dict[tuple[str, ...], int] = {}
        numbers = np.concatenate([self._series_of(event, labels) for event in events])

        def joined(name: str) -> npt.NDArray[Any]:
            return np.concatenate([event.column(name) for event in events])

        starts = itertools.accumulate((len(event) for event in events[:-1]), initial=0)
        outcomes, inputs, cached = joined("outcome"), joined("inputs"), joined("cached")
        table = _Table(
            total=joined("total_ms") / 1000,
            queue=joined("queue_ms") / 1000,
            batched=joined("batch") >= 0,
            answered=outcomes == ANSWERED,
            inputs=inputs,
            hits=np.rint(inputs * cached) if cached.any() else None,
            outcomes=outcomes,
            errors={
                start + row: error
                for start, event in zip(starts, events, strict=True)
                for row, (error, _) in event.trouble.items()
            },
        )
        for names, number in labels.items():
            self._series(table, numbers == number, names)
        return int((table.answered | table.batched).sum())

    def shadow_failed(self, model: ModelRef, error: str) -> None:
        """A shadow computed a request, and failed."""
        ref = self._models.bounded(model.name, model.version)
        metrics.SHADOW_FAILURES.labels(*ref, *self._errors.bounded(error)).inc()

    def published(self, seconds: npt.NDArray[np.float64]) -> None:
        """So long did deliveries [n] take, see `Outbox.take_delivery_seconds`."""
        metrics.PUBLISH_SECONDS.observe_all(seconds)

    def loaded(self, model: ModelRef, seconds: float) -> None:
        """A model is loaded, warm and checked."""
        metrics.MODEL_LOAD_SECONDS.labels(*self._models.bounded(model.name, model.version)).set(seconds)

    def retired(self, model: ModelRef) -> None:
        """A model is served no more: its series end."""
        self._models.forget(model.name, model.version)
        for family in metrics.CATALOGUE.families:
            if set(metrics.MODEL) <= set(family.description.labels):
                family.remove(model_name=model.name, model_version=model.version)

    def deployed(self, table: RoutingTable) -> None:
        """Which models answer or compute from now on, and how long each took to load."""
        shown = {}
        for servable in table.servables():
            if servable.load_seconds:
                self.loaded(servable.ref, servable.load_seconds)
        for scenario, routes in {ALL_SCENARIOS: [table.own], **table.scenarios}.items():
            for route in routes:
                mode = "shadow" if route.shadow else "answer"
                model = self._models.bounded(route.ref.name, route.ref.version)
                place = self._scenarios.bounded(scenario)[0], *model, route.ref.arm, mode
                shown[place] = route.share
        for place, share in shown.items():
            metrics.DEPLOYMENT_INFO.labels(*place).set(1.0)
            metrics.DEPLOYMENT_SHARE.labels(*place).set(share)
        for family in (metrics.DEPLOYMENT_INFO, metrics.DEPLOYMENT_SHARE):
            for place, _ in family.cells():
                if place not in shown:
                    family.remove(**dict(zip(family.description.labels, place, strict=True)))

    def _series_of(self, event: Served, labels: dict[tuple[str, ...], int]) -> npt.NDArray[np.int64]:
        """The number of each row's scenario and model in `labels`, where new ones are added."""
        scenarios, models = event.column("scenario"), event.column("model")
        if len(event.scenarios) == len(event.models) == 1 and scenarios.min() == models.min() == 0:  # nearly always
            return np.full(len(event), self._number(event, 0, 0, labels))
        pairs = np.stack([scenarios, models], axis=1)
        different, places = np.unique(pairs, axis=0, return_inverse=True)
        found = [self._number(event, scenario, model, labels) for scenario, model in different.tolist()]
        return np.array(found)[places.ravel()]

    def _number(self, event: Served, scenario: int, model: int, labels: dict[tuple[str, ...], int]) -> int:
        name = "" if scenario < 0 else self._scenarios.bounded(event.scenarios[scenario])[0]
        ref = ("", "") if model < 0 else (event.models[model].name, event.models[model].version)
        return labels.setdefault((name, *self._models.bounded(*ref)), len(labels))

    def _series(self, table: _Table, mine: Rows, labels: tuple[str, ...]) -> None:
        """The rows of one scenario and model."""
        answered, batched = mine & table.answered, mine & table.batched
        if batched.any():
            metrics.QUEUE_SECONDS.labels(*labels).observe_all(table.queue[batched])
        answers = int(answered.sum())
        if answers:
            computed = answered & batched  # the others brought their vectors, or the cache had them
            for rows, label in zip((computed, answered & ~batched), metrics.COMPUTED, strict=True):
                if rows.any():  # no empty series where nothing is cached
                    metrics.REQUEST_SECONDS.labels(*labels, label).observe_all(table.total[rows])
            metrics.REQUESTS.labels(*labels, Outcome.ANSWERED.value).inc(answers)
            metrics.CACHE_HITS.labels(*labels[1:]).inc(table.hits_of(answered))
            misses = int(table.inputs[computed].sum()) - table.hits_of(computed)
            metrics.CACHE_MISSES.labels(*labels[1:]).inc(misses)
        if answers < mine.sum():
            self._unanswered(table, np.flatnonzero(mine & ~table.answered).tolist(), labels)

    def _unanswered(self, table: _Table, rows: list[int], labels: tuple[str, ...]) -> None:
        for row in rows:
            outcome = OUTCOMES[table.outcomes[row]]
            metrics.REQUESTS.labels(*labels, outcome.value).inc()
            code = self._errors.bounded(table.errors.get(row, ""))[0]
            if outcome is Outcome.FAILED:
                metrics.FAILURES.labels(*labels[1:], code).inc()
                computed = metrics.COMPUTED[0 if table.batched[row] else 1]
                metrics.REQUEST_SECONDS.labels(*labels, computed).observe(float(table.total[row]))
            elif outcome is Outcome.SHED:
                metrics.SHED.labels(labels[0], code).inc()

"""Where requests wait: a lane for each model and arm, most urgent first, each with the limits it has learnt."""

from __future__ import annotations

import logging
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from inference_workers.admission.requests import Ready
from inference_workers.batching.compute_times import ComputeTimes
from inference_workers.batching.planner import BatchLimit, BatchPlan, Waiting, expired, plan_batch, seconds_until_due
from inference_workers.deployments.routing import Route

LOG = logging.getLogger(__name__)
TOKENS_MIN = 16
"""A learnt token budget never falls below this; a costlier item goes alone anyway."""
SHADOWS_MAX, SHADOW_BYTES_MAX = 256, 8_388_608
GROW_AFTER_BATCHES = 1_000
"""After so many batches without trouble a lowered budget is raised again by a quarter: memory may be free again."""


@dataclass(slots=True, eq=False)
class Lane:
    """Requests for one model under one arm's name."""

    route: Route
    limit: BatchLimit
    configured_tokens_max: int
    waiting: list[Ready] = field(default_factory=list)
    good_batches: int = 0
    times: ComputeTimes = field(default_factory=ComputeTimes)

    def add(self, one: Ready) -> None:
        """Put a request at its place."""
        urgency = one.waiting.urgency_ms
        if not self.waiting or self.waiting[-1].waiting.urgency_ms <= urgency:
            self.waiting.append(one)
        else:
            insort(self.waiting, one, key=lambda ready: ready.waiting.urgency_ms)

    def window(self) -> list[Waiting]:
        """What the planner looks at."""
        return [one.waiting for one in self.waiting[: self.limit.window]]

    def take(self, indexes: Sequence[int]) -> list[Ready]:
        """Remove these and give them, in the order of `indexes`."""
        chosen = set(indexes)
        taken = [self.waiting[i] for i in indexes]
        self.waiting = [one for i, one in enumerate(self.waiting) if i not in chosen]
        return taken

    def learn(self, exhausted_tokens: int | None, compute_ms: float) -> None:
        """A batch is done in `compute_ms`; with `exhausted_tokens` a forward pass of so many ran out of memory."""
        self.times.add(compute_ms)
        margin_ms = self.times.margin_ms
        if margin_ms != self.limit.margin_ms:
            self.limit = replace(self.limit, margin_ms=margin_ms)
        if exhausted_tokens is not None:
            tokens = max(TOKENS_MIN, min(self.limit.tokens_max, exhausted_tokens // 2))
            self.good_batches = 0
            if tokens == self.limit.tokens_max:
                return
            LOG.warning(
                "%s: %d tokens ran out of memory, %d from now on", self.route.ref.name, exhausted_tokens, tokens
            )
            self.limit = replace(self.limit, tokens_max=tokens)
        elif self.limit.tokens_max < self.configured_tokens_max:
            self.good_batches += 1
            if self.good_batches >= GROW_AFTER_BATCHES:
                tokens = min(self.configured_tokens_max, self.limit.tokens_max + max(1, self.limit.tokens_max // 4))
                self.limit, self.good_batches = replace(self.limit, tokens_max=tokens), 0


LaneKey = tuple[int, str]
"""`id` of a servable, and the arm's name."""


@dataclass(slots=True)
class Lanes:
    """All lanes of a worker. Used by the loop's thread.

    Shadows wait apart: they count for nothing, are planned only while no other request waits, and the oldest go when
    there are more than `SHADOWS_MAX` or `SHADOW_BYTES_MAX` of a model.
    """

    limit: BatchLimit
    held_bytes: int = 0
    _lanes: dict[LaneKey, Lane] = field(default_factory=dict)
    _shadows: dict[LaneKey, Lane] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def has_any(self) -> bool:
        """Whether anything waits, shadows too."""
        return any(lane.waiting for lane in (*self._lanes.values(), *self._shadows.values()))

    def add(self, one: Ready) -> None:
        """Let a request wait in its lane."""
        lane = self.lane_of(one.route, shadow=one.shadow)
        lane.add(one)
        if not one.shadow:
            self.held_bytes += one.size
            return
        while len(lane.waiting) > SHADOWS_MAX or sum(kept.size for kept in lane.waiting) > SHADOW_BYTES_MAX:
            lane.waiting.pop(0)

    def lane_of(self, route: Route, *, shadow: bool = False) -> Lane:
        """The route's lane, made when it is the first to need it."""
        lanes = self._shadows if shadow else self._lanes
        key = id(route.servable), route.ref.arm
        lane = lanes.get(key)
        if lane is None:
            lane = lanes[key] = Lane(route, self.limit, self.limit.tokens_max)
        return lane

    def take(self, lane: Lane, indexes: Sequence[int]) -> list[Ready]:
        """Remove requests from a lane."""
        taken = lane.take(indexes)
        self.held_bytes -= sum(one.size for one in taken if not one.shadow)
        return taken

    def late(self, now_ms: int) -> list[Ready]:
        """Remove and give those whose deadline has passed, as far as the planner looks."""
        found: list[Ready] = []
        for lane in (*self._lanes.values(), *self._shadows.values()):
            if lane.waiting:
                indexes = expired(lane.window(), lane.limit, now_ms)
                found += self.take(lane, indexes) if indexes else []
        return found

    def plan(self, now_ms: int, *, only_full: bool) -> tuple[Lane, BatchPlan] | None:
        """The next batch: of the lane whose first request is the most urgent among those that have one to give.

        A lane that is due is not overtaken by full batches of another, or a busy model would starve a quiet one.
        """
        passed: list[Lane] = []
        busy = [lane for lane in self._lanes.values() if lane.waiting]
        if not busy:
            busy = [lane for lane in self._shadows.values() if lane.waiting]
        for lane in sorted(busy, key=lambda lane: lane.waiting[0].waiting.urgency_ms):
            plan = plan_batch(lane.window(), lane.limit, now_ms, only_full=only_full)
            if plan is None:
                passed.append(lane)
                continue
            for more_urgent in passed:
                due = plan_batch(more_urgent.window(), more_urgent.limit, now_ms, only_full=False)
                if due is not None:
                    return more_urgent, due
            return lane, plan
        return None

    def seconds_until_due(self, now_ms: int) -> float | None:
        """How long a batch that is not full may still wait; None while nothing waits."""
        lanes = (*self._lanes.values(), *self._shadows.values())
        waits = [seconds_until_due(lane.window(), lane.limit, now_ms) for lane in lanes if lane.waiting]
        return min(waits, default=None)

    def first_appended_ms(self) -> list[int]:
        """When the next request of each lane was appended to its topic."""
        return [lane.waiting[0].asked.appended_ms for lane in self._lanes.values() if lane.waiting]

    def drop(self, is_gone: Callable[[Ready], bool]) -> None:
        """Forget requests that went to another worker, and shadows."""
        for lane in (*self._lanes.values(), *self._shadows.values()):
            lane.waiting = [one for one in lane.waiting if not is_gone(one)]
        self.held_bytes = sum(one.size for lane in self._lanes.values() for one in lane.waiting)

    def retire(self, routes: set[LaneKey], leaving: set[int]) -> None:
        """Forget the empty lanes of no route, but for those of models (by `id`) that are still leaving."""
        for lanes in (self._lanes, self._shadows):
            for key in [key for key, lane in lanes.items() if not lane.waiting]:
                if key not in routes and key[0] not in leaving:
                    del lanes[key]

    def using(self) -> set[int]:
        """Models (by `id`) that requests wait for."""
        lanes = (*self._lanes.items(), *self._shadows.items())
        return {key[0] for key, lane in lanes if lane.waiting}

"""Where requests wait: a lane for each model and arm, most urgent first, each with the limits it has learnt."""

from __future__ import annotations

import logging
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from inference_workers.admission import Ready
from inference_workers.batching import BatchLimit, BatchPlan, Waiting, expired, plan_batch, seconds_until_due
from inference_workers.routing import Route

LOG = logging.getLogger(__name__)
TOKENS_MIN = 16
"""A learnt token budget never falls below this; a costlier item goes alone anyway."""
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

    def learn(self, exhausted_tokens: int | None) -> None:
        """A batch is done; with `exhausted_tokens` a forward pass of so many ran out of memory."""
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


@dataclass(slots=True)
class Lanes:
    """All lanes of a worker. Used by the loop's thread."""

    limit: BatchLimit
    held_bytes: int = 0
    _lanes: dict[tuple[int, str], Lane] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def add(self, one: Ready) -> None:
        """Let a request wait in its lane."""
        self.lane_of(one.route).add(one)
        self.held_bytes += one.size

    def lane_of(self, route: Route) -> Lane:
        """The route's lane, made when it is the first to need it."""
        key = id(route.servable), route.ref.arm
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(route, self.limit, self.limit.tokens_max)
        return lane

    def take(self, lane: Lane, indexes: Sequence[int]) -> list[Ready]:
        """Remove requests from a lane."""
        taken = lane.take(indexes)
        self.held_bytes -= sum(one.size for one in taken)
        return taken

    def late(self, now_ms: int) -> list[Ready]:
        """Remove and give those whose deadline has passed, as far as the planner looks."""
        found: list[Ready] = []
        for lane in self._lanes.values():
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

    def first_appended_ms(self) -> list[int]:
        """When the most urgent request of each lane was appended."""
        return [lane.waiting[0].asked.appended_ms for lane in self._lanes.values() if lane.waiting]

    def seconds_until_due(self, now_ms: int) -> float | None:
        """How long a batch that is not full may still wait; None while nothing waits."""
        waits = [seconds_until_due(lane.window(), lane.limit, now_ms) for lane in self._lanes.values() if lane.waiting]
        return min(waits, default=None)

    def drop(self, is_gone: Callable[[Ready], bool]) -> None:
        """Forget requests that went to another worker."""
        for lane in self._lanes.values():
            lane.waiting = [one for one in lane.waiting if not is_gone(one)]
        self.held_bytes = sum(one.size for lane in self._lanes.values() for one in lane.waiting)

    def retire(self, keep: set[int]) -> None:
        """Forget the empty lanes of models that are not among these (by `id`)."""
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.waiting or key[0] in keep}

    def using(self) -> set[int]:
        """Models (by `id`) that requests wait for."""
        return {key[0] for key, lane in self._lanes.items() if lane.waiting}

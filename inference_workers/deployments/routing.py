"""Which model computes a request: a stable choice by scenario and key. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from inference_workers.models.servable import Servable
from schemas.predictions import ModelRef


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A model under an arm's name: `ref` is what answers and telemetry say."""

    servable: Servable
    ref: ModelRef
    share: float = 1.0
    shadow: bool = False


def own_route(servable: Servable) -> Route:
    """The worker's own model, for scenarios that have no deployment."""
    return Route(servable, servable.ref)


def point_of(scenario: str, key: bytes) -> float:
    """Where a key falls in [0, 1): the same in every worker and for ever, and independent between scenarios."""
    digest = hashlib.blake2b(scenario.encode() + b"\0" + key, digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """The routes of each deployed scenario; `own` for all others. A new table replaces it whole, between batches."""

    own: Route
    scenarios: Mapping[str, Sequence[Route]] = field(default_factory=dict)
    superseded: frozenset[Servable] = frozenset()
    """Models of tables before this one that were never taken over."""

    def choose(self, scenario: str, key: bytes | None, identity: str) -> tuple[Route, Sequence[Route]]:
        """The route that answers, and the shadows that compute too. Without a key the request's identity decides, so
        that it is decided alike when the request is worked on again."""
        routes = self.scenarios.get(scenario)
        if routes is None:
            return self.own, ()
        answering = [one for one in routes if not one.shadow]
        shadows = [one for one in routes if one.shadow]
        if len(answering) == 1:
            return answering[0], shadows
        point = point_of(scenario, key if key is not None else identity.encode())
        total = 0.0
        for one in answering:
            total += one.share
            if point < total:
                return one, shadows
        return answering[-1], shadows  # shares add up to 1 but for rounding

    def routes(self) -> list[Route]:
        """Every route, the worker's own among them."""
        return [self.own, *(one for routes in self.scenarios.values() for one in routes)]

    def servables(self) -> set[Servable]:
        """Every model that some route uses."""
        return {one.servable for one in self.routes()}

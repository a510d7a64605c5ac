"""Deployments under traffic: what `control.deployments` asks for is loaded beside what runs, then switched to.

A model that cannot be loaded is refused, and what ran for its scenario goes on; a worker that starts loads what ran
before. The loop takes a new routing table over between two batches, so every request is computed by the model that its
batch began with.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from inference_workers.deployments.routing import Route, RoutingTable, own_route
from inference_workers.models.servable import Servable
from inference_workers.models.verdicts import ModelRefused
from infra.ports import Record
from schemas.base import DecodeError, Reason, decode
from schemas.deployments import DEPLOYMENT_KINDS, Arm, DeploymentChanged

LOG = logging.getLogger(__name__)
SCENARIOS_MAX = 256
"""Bounds the deployed scenarios; more are refused."""
Load = Callable[[Arm], Servable]
"""Finds, checks, loads and warms a model; blocks for seconds. Raises ModelRefused."""
_ModelKey = tuple[str, str | None, str, str, str | None]


@dataclass(frozen=True, slots=True)
class ModelListener:
    """Who is told what became of models; called on the watching thread, `retired` on the loop's. None may raise."""

    ready: Callable[[str, Sequence[Route]], None] = lambda scenario, routes: None
    refused: Callable[[Arm, str, ModelRefused], None] = lambda arm, scenario, error: None
    retired: Callable[[Servable], None] = lambda servable: None


class Deployments:
    """Turns deployments into routing tables. `apply` is for one thread, `take` and `retire` for the loop's."""

    def __init__(self, own: Servable, load: Load, listener: ModelListener | None = None) -> None:
        """`own` is the worker's own model, for scenarios without a deployment; it is never unloaded."""
        self._own, self._load, self._listener = own_route(own), load, listener or ModelListener()
        self._lock = threading.Lock()
        self._loaded: dict[_ModelKey, Servable] = {}
        self._routes: dict[str, Sequence[Route]] = {}
        self._claimed: set[Servable] = {own}
        self._next: RoutingTable | None = None
        self._failure: BaseException | None = None

    @property
    def table(self) -> RoutingTable:
        """What holds now, also when the loop did not take it over yet."""
        return RoutingTable(self._own, dict(self._routes))

    def apply(self, record: Record) -> None:
        """Bring a scenario to what a record says. Blocks while models are loaded. Raises DecodeError."""
        if record.value is None:
            scenario = _scenario_of(record.key)
            if self._routes.pop(scenario, None) is not None:
                LOG.info("%s: no deployment any more, the worker's own model answers", scenario)
                self._publish()
            return
        wanted = decode(record.headers, record.value, DEPLOYMENT_KINDS).data
        if wanted.scenario not in self._routes and len(self._routes) >= SCENARIOS_MAX:
            raise DecodeError(Reason.UNSUPPORTED, f"more than {SCENARIOS_MAX} scenarios are deployed")
        routes = self._routes_of(wanted)
        if routes is None and wanted.scenario not in self._routes:
            routes = self._routes_before(wanted)
        if routes is not None:
            self._routes[wanted.scenario] = routes
            LOG.info("%s: %s", wanted.scenario, ", ".join(_words(one) for one in routes))
            self._publish()
            self._listener.ready(wanted.scenario, routes)

    def fail(self, error: BaseException) -> None:
        """Nobody applies deployments any more: the worker must end, for a new one to follow them."""
        self._failure = error

    def take(self) -> RoutingTable | None:
        """A new table, once; None while nothing changed. Raises what ended the watching for good."""
        if self._failure is not None:
            raise self._failure
        if self._next is None:
            return None
        with self._lock:
            table, self._next = self._next, None
            return table

    def retire(self, servable: Servable) -> bool:
        """The loop uses this model no more: unload it. False when a table that is being made needs it: ask again."""
        with self._lock:
            if servable in self._claimed:
                return False
            self._loaded = {key: one for key, one in self._loaded.items() if one is not servable}
        servable.engine.close()
        LOG.info("%s %s is unloaded", servable.ref.name, servable.ref.version)
        self._listener.retired(servable)
        return True

    def _routes_of(self, wanted: DeploymentChanged) -> list[Route] | None:
        """The routes of a deployment, its models loaded; None when one of them is refused: all or nothing."""
        routes: list[Route] = []
        loaded: list[Servable] = []
        for arm in wanted.arms:
            try:
                servable = self._servable(arm, loaded)
            except ModelRefused as error:
                LOG.warning("%s: %s is refused, nothing changes: %s", wanted.scenario, arm.arm, error)
                self._listener.refused(arm, wanted.scenario, error)
                self._let_go(loaded)
                return None
            routes.append(
                Route(servable, servable.ref.model_copy(update={"arm": arm.arm}), arm.share, shadow=arm.shadow)
            )
        return routes

    def _routes_before(self, refused: DeploymentChanged) -> list[Route] | None:
        """What a worker that ran before still answers with. One that starts now knows it from the refused record alone,
        and would answer with its own model. None when nothing was deployed before, or it is refused, too."""
        if not refused.previous:
            return None
        try:
            before = DeploymentChanged(scenario=refused.scenario, arms=refused.previous)
        except ValidationError:
            LOG.warning("%s: the arms before make no deployment, the worker's own model answers", refused.scenario)
            return None
        return self._routes_of(before)

    def _servable(self, arm: Arm, loaded: list[Servable]) -> Servable:
        key = arm.model, arm.revision, arm.model_name, arm.version, arm.digest
        with self._lock:
            servable = self._loaded.get(key)
            if servable is not None:
                self._claimed.add(servable)
                return servable
        servable = self._load(arm)
        loaded.append(servable)
        with self._lock:
            self._loaded[key] = servable
            self._claimed.add(servable)
        return servable

    def _publish(self) -> None:
        table = self.table
        with self._lock:
            passed = self._next  # the loop did not see it: it must let go of what was only there
            if passed is not None:
                only_there = (passed.servables() | passed.superseded) - table.servables()
                table = replace(table, superseded=frozenset(only_there))
            self._next = table
            self._claimed = table.servables()

    def _let_go(self, loaded: Sequence[Servable]) -> None:
        """Unload what was loaded for a deployment that was refused; the loop never saw it."""
        with self._lock:
            self._claimed = self.table.servables()
        for servable in loaded:
            self.retire(servable)


def _scenario_of(key: bytes | None) -> str:
    try:
        return (key or b"").decode()
    except UnicodeDecodeError:
        raise DecodeError(Reason.BAD_VALUE, "the key is no scenario: it is not UTF-8") from None


def _words(route: Route) -> str:
    what = "shadow" if route.shadow else f"{route.share:.0%}"
    return f"{route.ref.arm} {route.ref.name} {route.ref.version} ({what})"

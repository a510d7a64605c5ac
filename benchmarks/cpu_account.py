"""Processor time spent inside chosen calls, thread by thread, with the cost of measuring taken out again."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

CALIBRATION_CALLS = 20_000


class HookGone(Exception):
    """A call that was to be measured has another name now. The text says which."""


@dataclass(frozen=True, slots=True)
class CallCost:
    """What measuring one call costs, in seconds: within what is measured, and of the process altogether."""

    inside: float
    altogether: float


class CpuAccount:
    """Sums `thread_time` of wrapped calls. A wrapped call inside a wrapped call counts once. Threads may call at once:
    each measures itself and has sums of its own, which are added up when they are asked for."""

    def __init__(self, thread_time: Callable[[], float] = time.thread_time) -> None:
        self._thread_time = thread_time
        self._here = threading.local()
        self._sums: list[dict[str, tuple[int, float]]] = []

    @property
    def by_call(self) -> dict[str, tuple[int, float]]:
        """Number and seconds by the call's name."""
        found: dict[str, tuple[int, float]] = {}
        for sums in self._sums:
            for name, (calls, seconds) in tuple(sums.items()):
                before = found.get(name, (0, 0.0))
                found[name] = before[0] + calls, before[1] + seconds
        return found

    @property
    def calls(self) -> int:
        """How many there were."""
        return sum(calls for calls, _ in self.by_call.values())

    @property
    def seconds(self) -> float:
        """What they took together."""
        return sum(seconds for _, seconds in self.by_call.values())

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, accounted."""

        name = f"{call.__module__.rpartition('.')[2]}.{call.__qualname__}"

        @functools.wraps(call)
        def measured(*arguments: Any, **named: Any) -> Any:
            if getattr(self._here, "inside", False):
                return call(*arguments, **named)
            self._here.inside = True
            began = self._thread_time()
            try:
                return call(*arguments, **named)
            finally:
                self._add(name, self._thread_time() - began)
                self._here.inside = False

        return measured

    def _add(self, name: str, seconds: float) -> None:
        sums: dict[str, tuple[int, float]] | None = getattr(self._here, "sums", None)
        if sums is None:
            sums = self._here.sums = {}
            self._sums.append(sums)
        calls, sum_of = sums.get(name, (0, 0.0))
        sums[name] = calls + 1, sum_of + seconds


def install(account: CpuAccount, hooks: tuple[str, ...]) -> None:
    """Account for calls named `module:Class.method`. Raises HookGone for one that is not there."""
    for hook in hooks:
        owner, name = find(hook)
        setattr(owner, name, account.wrap(getattr(owner, name)))


def find(hook: str) -> tuple[Any, str]:
    """The object and the attribute that `module:Class.method` names. Raises HookGone."""
    module, _, path = hook.partition(":")
    *parents, name = path.split(".")
    try:
        owner = functools.reduce(getattr, parents, import_module(module))
        getattr(owner, name)
    except (ImportError, AttributeError) as error:
        raise HookGone(f"{hook} is not there any more ({error}): correct it in {__package__}.telemetry_cost") from None
    return owner, name


def measure_call_cost() -> CallCost:
    """What accounting for one call costs on this machine."""
    account = CpuAccount()

    def nothing() -> None:
        return None

    measured = account.wrap(nothing)
    began = time.process_time()
    for _ in range(CALIBRATION_CALLS):
        measured()
    took = time.process_time() - began
    return CallCost(account.seconds / CALIBRATION_CALLS, took / CALIBRATION_CALLS)

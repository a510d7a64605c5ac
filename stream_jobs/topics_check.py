"""What a job needs of its topics before it starts: that they are there and that their partitions fit. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from infra.up.traffic import REQUEST_DEAD_LETTERS
from schemas.topics import (
    ALERTS,
    ANOMALIES,
    LEDGER_STATE,
    PREDICTIONS,
    REQUEST_STATE,
    REQUESTS,
    TELEMETRY,
    WINDOW_STATE,
    WINDOWS,
    Topic,
)

NEEDED = (REQUESTS, TELEMETRY, WINDOWS, ANOMALIES, ALERTS, REQUEST_STATE, WINDOW_STATE)
SCORE_NEEDED = tuple(one.name for one in NEEDED)
LEDGER_NEEDED = (REQUESTS.name, PREDICTIONS.name, REQUEST_DEAD_LETTERS, WINDOWS.name, LEDGER_STATE.name)
STATES: tuple[tuple[Topic, Topic], ...] = ((TELEMETRY, REQUEST_STATE), (WINDOWS, WINDOW_STATE))
"""A topic and where the state of its partitions lies, by partition number."""


def missing(counts: Mapping[str, int], needed: Iterable[str] = SCORE_NEEDED) -> str:
    """Why a job cannot start yet, with the way out, given partitions by topic; empty when every topic is there."""
    names = [topic for topic in needed if not counts[topic]]
    return f"no topic {', '.join(names)}: `inferwatch topics apply` makes it" if names else ""


def misfit(counts: Mapping[str, int]) -> str:
    """Why a job cannot work with these topics, with the way out; empty when it can."""
    found = [
        f"{state.name} has {counts[state.name]} partitions and {source.name} {counts[source.name]}: the state of the "
        f"others would have no place."
        for source, state in STATES
        if counts[state.name] < counts[source.name]
    ]
    way_out = "`inferwatch topics apply` adds them; nothing moves, because state lies by partition number."
    return "\n".join([*found, f"Way out: {way_out}"]) if found else ""


def misfit_ledger(counts: Mapping[str, int]) -> str:
    """Why the ledger cannot work with these topics, with the way out; empty when it can."""
    short = [name for name in (PREDICTIONS.name, LEDGER_STATE.name) if counts[name] < counts[REQUESTS.name]]
    if not short:
        return ""
    return (
        f"{REQUESTS.name} has {counts[REQUESTS.name]} partitions, and fewer have {', '.join(short)}: the others would "
        f"have no place for answers or books.\nWay out: `inferwatch topics apply` adds them"
    )


def misfit_budget(counts: Mapping[str, int], alerts_a_week: int) -> str:
    """Why the budget cannot be shared among the partitions of the windows topic, and ways out; empty when it can."""
    partitions = counts[WINDOWS.name]
    if alerts_a_week >= partitions:
        return ""
    return (
        f"INFERWATCH_JOBS_ALERTS_A_WEEK={alerts_a_week}: {WINDOWS.name} has {partitions} partitions, which share the "
        f"budget, and a series on one without a share could never alert for its score.\n"
        f"Ways out: set it to {partitions} or more, or leave it out"
    )

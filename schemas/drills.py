"""Faults asked for on purpose, on `control.drills`: people see an alert open, and detectors get true labels."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from schemas.base import Label, Message


class DrillKind(StrEnum):
    """What a drill does to live traffic."""

    LATENCY = "latency"


class DrillRequested(Message):
    """From the record's append time, for `duration_ms`, workers that allow drills misbehave as `kind` says."""

    KIND: ClassVar[str] = "drill.requested"

    drill_id: Label
    kind: DrillKind
    duration_ms: Annotated[int, Field(ge=1_000, le=3_600_000)]
    delay_ms: Annotated[int, Field(ge=0, le=60_000)] = Field(
        default=0, description="LATENCY: extra milliseconds for each batch."
    )


DRILL_KINDS: tuple[type[DrillRequested]] = (DrillRequested,)

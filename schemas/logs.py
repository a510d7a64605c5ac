"""Log lines of workers as events on `inference.logs`: JSON with the trace they belong to."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.base import EpochMs, Label, Message

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
MESSAGE_CHARACTERS_MAX = 8_000


class LogWritten(Message):
    """One line that a process logged. Longer messages and stacks are cut."""

    KIND: ClassVar[str] = "log.written"

    time_ms: EpochMs
    level: Level
    logger: Annotated[str, Field(max_length=200)]
    message: Annotated[str, Field(max_length=MESSAGE_CHARACTERS_MAX)]
    worker_id: Label
    trace_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = Field(
        default=None, description="W3C trace id of the request that the line is about."
    )
    stack: Annotated[str, Field(max_length=MESSAGE_CHARACTERS_MAX)] = Field(
        default="", description="The traceback, when an exception was logged."
    )
    fingerprint: Annotated[str, Field(max_length=64)] = Field(
        default="", description="Hash of the normalised stack: equal for equal faults."
    )


LOG_KINDS: tuple[type[LogWritten]] = (LogWritten,)

"""What event producers put on `inference.requests`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.base import Message, Slug

InputText = Annotated[str, Field(max_length=1_048_576)]
Task = Literal["embed"]


class InferenceRequested(Message):
    """Somebody asked a model something. `{"input": "red shoes"}` is a complete request.

    The request's identity is its record's position, not a field. `ce_id`, when the producer sets it, is the
    producer's own name for the request and comes back with the answer as `request_id`.
    """

    KIND: ClassVar[str] = "inference.requested"

    input: InputText | Annotated[list[InputText], Field(min_length=1, max_length=64)] = Field(
        description="One text, or 1 to 64 texts answered together, in order."
    )
    scenario: Slug = Field(default="search", description="What the answer is for: search, recommendation, ...")
    task: Task = Field(default="embed", description="What to compute.")
    timeout_ms: Annotated[int, Field(ge=1, le=86_400_000)] | None = Field(
        default=None,
        description="Milliseconds after the record's append time when an answer is of no more use.",
    )

    @property
    def texts(self) -> list[str]:
        """The inputs as a list, in order."""
        return [self.input] if isinstance(self.input, str) else self.input

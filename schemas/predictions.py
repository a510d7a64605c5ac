"""What workers answer on `inference.predictions`: answered, failed or shed, one for each request."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.base import Identity, Label, Message, Milliseconds, Part, Slug
from schemas.requests import Task
from schemas.vectors import Base64Float32


class ModelRef(Part):
    """Which model it was: name, version, and the SHA-256 of its weights."""

    name: Label
    version: Label
    digest: Annotated[str, Field(max_length=128)] = ""


class Timings(Part):
    """Where the time of a request went, milliseconds. `total` runs from the record's append time to publishing."""

    queue: Milliseconds
    tokenise: Milliseconds
    compute: Milliseconds
    total: Milliseconds


class Embedding(Part):
    """One embedding of `dimension` numbers, normalised to length 1 when the model's configuration says so."""

    vector: Base64Float32
    dimension: Annotated[int, Field(ge=1, le=262_144)]


class _Prediction(Message):
    request: Identity
    request_id: Annotated[str, Field(max_length=512)]
    scenario: Slug
    task: Task = "embed"
    worker_id: Label


class InferenceAnswered(_Prediction):
    """A request was answered; `outputs` has one entry for each input, in order."""

    KIND: ClassVar[str] = "inference.answered"

    model: ModelRef
    outputs: Annotated[list[Embedding], Field(min_length=1, max_length=64)]
    timings_ms: Timings
    truncated: bool = Field(default=False, description="True when an input was longer than the model reads.")


class InferenceFailed(_Prediction):
    """A request could not be computed. Final: it is not tried again."""

    KIND: ClassVar[str] = "inference.failed"

    model: ModelRef
    error: Annotated[str, Field(max_length=200)] = Field(description="The class of the error, for programs.")
    message: Annotated[str, Field(max_length=2_000)]
    fingerprint: Annotated[str, Field(max_length=64)] = Field(
        default="", description="Hash of the normalised stack: equal for equal faults."
    )


class RequestShed(_Prediction):
    """A request was given up on purpose, and why. Never silence."""

    KIND: ClassVar[str] = "inference.shed"

    reason: Annotated[str, Field(max_length=64)] = Field(description="expired, over_limit, ...")
    message: Annotated[str, Field(max_length=2_000)] = ""


Prediction = InferenceAnswered | InferenceFailed | RequestShed
PREDICTION_KINDS: tuple[type[InferenceAnswered], type[InferenceFailed], type[RequestShed]] = (
    InferenceAnswered,
    InferenceFailed,
    RequestShed,
)

"""What workers answer on `inference.predictions`: answered, failed or shed, one for each request."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.base import Count, Identity, Label, Message, Milliseconds, Part, Share, Slug
from schemas.requests import Task
from schemas.vectors import Base64Float32


class ModelRef(Part):
    """Which model it was: name, version, the SHA-256 of its weights, and the arm of the deployment that chose it."""

    name: Label
    version: Label
    digest: Annotated[str, Field(max_length=128)] = ""
    arm: Annotated[str, Field(max_length=64)] = Field(default="", description="Empty: the worker's own model.")


class Timings(Part):
    """Where the time of a request went, milliseconds. `total` runs from the record's append time to publishing, `queue`
    to the start of its batch, but for the time in which its images were read: that is preparation, as `tokenise` is."""

    queue: Milliseconds
    tokenise: Milliseconds
    compute: Milliseconds
    total: Milliseconds


class Embedding(Part):
    """One embedding of `dimension` numbers, normalised to length 1 when the model's configuration says so."""

    vector: Base64Float32
    dimension: Annotated[int, Field(ge=1, le=262_144)]


class EmbeddingNumbers(Part):
    """The same as JSON numbers, when the request asked for `encoding_format: float`."""

    numbers: Annotated[list[float], Field(min_length=1, max_length=262_144)]


class Ranked(Part):
    """One ranked item: its number in the request's `input`, from 0, and its score; higher fits better.

    A cross-encoder's score is a probability, 0 to 1; otherwise it is how the model's own files say that two vectors are
    compared: the cosine, -1 to 1; the dot product; or a negative distance, 0 at most.
    """

    index: Annotated[int, Field(ge=0, le=63)]
    score: float


class LabelProbability(Part):
    """A label of the model and its probability."""

    label: Label
    probability: Share


class Classification(Part):
    """One input's labels, the likeliest first. Of more than 100 labels the 100 likeliest."""

    labels: Annotated[list[LabelProbability], Field(min_length=1, max_length=100)]


class Generated(Part):
    """A generated text without its prompt, and why it ended."""

    text: str
    tokens: Count
    finish_reason: Literal["stop", "length"]


Output = Embedding | EmbeddingNumbers | Ranked | Classification | Generated


class _Prediction(Message):
    MINOR: ClassVar[int] = 1

    request: Identity
    request_id: Annotated[str, Field(max_length=512)]
    scenario: Slug
    task: Task = "embed"
    worker_id: Label


class InferenceAnswered(_Prediction):
    """A request was answered. `outputs` has one entry for each input, in order; for `rerank` the items, best first."""

    KIND: ClassVar[str] = "inference.answered"

    model: ModelRef
    outputs: Annotated[list[Output], Field(min_length=1, max_length=64)]
    timings_ms: Timings
    truncated: bool = Field(default=False, description="True when an input was longer than the model reads.")
    cached: bool = Field(default=False, description="True when all of it came from the worker's cache.")


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

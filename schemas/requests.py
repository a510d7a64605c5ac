"""What event producers put on `inference.requests`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from schemas.base import Message, Part, Slug
from schemas.vectors import Base64Float32

InputText = Annotated[str, Field(max_length=1_048_576)]
Task = Literal["embed", "rerank", "classify", "generate"]
EncodingFormat = Literal["base64", "float"]
INPUTS_MAX = 64


class ImageReference(Part):
    """An image that lies in a folder the workers can read (a claim check): its bytes never travel through Kafka."""

    name: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00\\]+$")] = Field(
        description="Path below the workers' image folder; it may not lead out of it."
    )
    media_type: Literal["image/jpeg", "image/png", "image/webp"]


class TypedInput(Part):
    """One input that is not a bare text: exactly one of `text`, `embedding` and `image`."""

    text: InputText | None = None
    text_pair: InputText | None = Field(default=None, description="The second text of a pair; goes with `text`.")
    embedding: Base64Float32 | Annotated[list[float], Field(min_length=1, max_length=65_536)] | None = Field(
        default=None, description="A ready-made vector: base64 of little-endian float32, or numbers."
    )
    image: ImageReference | None = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if sum(one is not None for one in (self.text, self.embedding, self.image)) != 1:
            raise ValueError("exactly one of text, embedding and image is needed")
        if self.text_pair is not None and self.text is None:
            raise ValueError("text_pair needs text")
        return self


Input = InputText | TypedInput


class Generation(Part):
    """How to generate. Without a temperature the likeliest token is taken each time."""

    max_tokens: Annotated[int, Field(ge=1, le=4_096)] = Field(default=64, description="Most tokens to generate.")
    temperature: Annotated[float, Field(ge=0.0, le=10.0)] = Field(default=0.0, description="0: greedy.")
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = Field(
        default=0, description="Equal seeds give equal texts, whatever else is in the batch."
    )


class InferenceRequested(Message):
    """Somebody asked a model something. `{"input": "red shoes"}` is a complete request.

    The request's identity is its record's position, not a field. `ce_id`, when the producer sets it, is the
    producer's own name for the request and comes back with the answer as `request_id`.
    """

    KIND: ClassVar[str] = "inference.requested"
    MINOR: ClassVar[int] = 1

    input: Input | Annotated[list[Input], Field(min_length=1, max_length=INPUTS_MAX)] = Field(
        description="One input, or 1 to 64 answered together, in order. For `rerank`: the items to be ranked."
    )
    scenario: Slug = Field(default="search", description="What the answer is for: search, recommendation, ...")
    task: Task = Field(default="embed", description="What to compute.")
    query: Input | None = Field(default=None, description="`rerank`: what the items are ranked by. Needed there.")
    top_n: Annotated[int, Field(ge=1, le=INPUTS_MAX)] | None = Field(
        default=None, description="`rerank`: how many of the best items to give; default: all."
    )
    encoding_format: EncodingFormat = Field(
        default="base64", description="How vectors come back: base64 of little-endian float32, or JSON numbers."
    )
    generation: Generation | None = Field(default=None, description="`generate`: limits and sampling.")
    timeout_ms: Annotated[int, Field(ge=1, le=86_400_000)] | None = Field(
        default=None,
        description="Milliseconds after the record's append time when an answer is of no more use.",
    )

    @model_validator(mode="after")
    def _fits_its_task(self) -> Self:
        if self.task == "rerank" and self.query is None:
            raise ValueError("rerank needs a query")
        if self.task != "rerank" and (self.query is not None or self.top_n is not None):
            raise ValueError(f"query and top_n belong to rerank, not to {self.task}")
        if self.task != "generate" and self.generation is not None:
            raise ValueError(f"generation belongs to generate, not to {self.task}")
        return self

    @property
    def inputs(self) -> list[Input]:
        """The inputs as a list, in order."""
        return self.input if isinstance(self.input, list) else [self.input]

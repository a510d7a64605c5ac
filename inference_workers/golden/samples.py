"""The file of golden samples: requests and answers as they are on the topics, so that any real pair can become one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from inference_workers.models.files import GOLDEN_FILE
from inference_workers.models.registry import ModelFolder
from inference_workers.models.verdicts import ModelRefused, Refusal, refuse
from schemas.base import Part
from schemas.predictions import Output
from schemas.requests import InferenceRequested

SHIPPED_FOLDER = Path(__file__).parent
SHIPPED: Mapping[str, str] = {
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db": "all-MiniLM-L6-v2.json"
}
"""Samples that come with the project, by the digest of the weights they were made with."""
GOLDEN_BYTES_MAX = 16 * 1_048_576
SAMPLES_MAX = 256
"""More would make every start slow; golden samples are a check, not an evaluation."""


class Tolerance(Part):
    """How far an answer may be from the expected one, by what it is. A text must be equal."""

    vector: Annotated[float, Field(ge=0.0, le=2.0)] = Field(
        default=0.002,
        description="1 - cosine. float32 on other machines differs by 1e-6, bfloat16 by 1e-4, a wrong model by 0.1.",
    )
    score: Annotated[float, Field(ge=0.0, le=2.0)] = Field(
        default=0.02,
        description="Difference of a probability or of an item's score when ranked; of a score above 1, its share.",
    )


class Sample(Part):
    """A request and the outputs of its answer. `rerank` is compared by the items' scores, so `top_n` is not needed."""

    request: InferenceRequested
    outputs: Annotated[list[Output], Field(min_length=1, max_length=64)]


class Golden(Part):
    """The file: samples, how far an answer may be off, and what they were made with.

    With a `digest` they are for these weights alone; without, they guard variants of a model, too.
    """

    format: Literal["inferwatch-golden/1"] = "inferwatch-golden/1"
    made_with: Annotated[str, Field(max_length=1_000)] = ""
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    tolerance: Tolerance = Field(default_factory=Tolerance)
    samples: Annotated[list[Sample], Field(min_length=1, max_length=SAMPLES_MAX)]


def golden_for(model: ModelFolder, given: Path | None) -> tuple[Golden | None, str]:
    """A model's samples and the file they are in: the one given, its folder's `golden.json`, or ours for its weights.

    Raises ModelRefused for a file that cannot be used, or that was made with other weights.
    """
    shipped = SHIPPED.get(model.digest)
    path = given or model.path / GOLDEN_FILE
    if given is None and not path.is_file():
        if shipped is None:
            return None, ""
        path = SHIPPED_FOLDER / shipped
    golden = read_golden(path, model.source)
    if golden.digest is not None and golden.digest != model.digest:
        raise _unusable(
            model.source, f"{path.name} was made with weights {golden.digest[:12]}..., these are {model.digest[:12]}..."
        )
    return golden, str(path)


def read_golden(path: Path, source: str) -> Golden:
    """The samples of a file. Raises ModelRefused, naming the first thing that is wrong."""
    try:
        if path.stat().st_size > GOLDEN_BYTES_MAX:
            raise _unusable(source, f"{path.name} is larger than {GOLDEN_BYTES_MAX} bytes")
        return Golden.model_validate_json(path.read_bytes())
    except OSError as error:
        raise _unusable(source, f"{path} cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise _unusable(source, f"{path.name}: {where}: {first['msg']}") from None


def write_golden(path: Path, golden: Golden) -> None:
    """Write the file, defaults of requests left out. Raises OSError."""
    said = golden.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    told = {"format": golden.format, **said, "tolerance": golden.tolerance.model_dump(), "samples": said["samples"]}
    path.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _unusable(source: str, why: str) -> ModelRefused:
    ways_out = "record them again with `inferwatch model golden`; or remove the file"
    return refuse(Refusal.GOLDEN, source, why, ways_out)

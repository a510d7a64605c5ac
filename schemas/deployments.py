"""What runs where: deployments that operators ask for on `control.deployments`, and what workers made of them."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from schemas.base import Count, Label, Message, Milliseconds, Part, Share, Slug
from schemas.predictions import ModelRef

ARMS_MAX = 8
SHARE_TOLERANCE = 1e-6


class Arm(Part):
    """One model of a deployment and its share of the scenario's traffic."""

    arm: Slug = Field(description="stable, canary, ...")
    model: Annotated[str, Field(min_length=1, max_length=1_000)] = Field(
        description="Package with a `model` folder, path of a local folder, or hub id. Safetensors only."
    )
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = Field(
        default=None, description="Commit of a hub id; needed for one."
    )
    model_name: Label
    version: Label
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        default=None, description="SHA-256 of the weights; a model with another is refused."
    )
    share: Share = Field(default=0.0, description="Share of the scenario's requests that this arm answers.")
    shadow: bool = Field(default=False, description="Computes every request and answers none.")


class DeploymentChanged(Message):
    """From now on a scenario's requests are computed by these arms. The key is the scenario; the last record holds.

    Which arm answers is a stable hash of the request's key, so that a user stays with an arm. A tombstone ends the
    deployment: the workers' own model answers again.
    """

    KIND: ClassVar[str] = "deployment.changed"

    scenario: Slug
    arms: Annotated[list[Arm], Field(min_length=1, max_length=ARMS_MAX)]
    previous: Annotated[list[Arm], Field(max_length=ARMS_MAX)] = Field(
        default_factory=list, description="The arms before, so that a rollback needs no history."
    )
    reason: Annotated[str, Field(max_length=2_000)] = ""

    @model_validator(mode="after")
    def _shares_add_up(self) -> Self:
        names = [one.arm for one in self.arms]
        if len(set(names)) != len(names):
            raise ValueError("two arms have one name")
        if any(one.shadow and one.share for one in self.arms):
            raise ValueError("a shadow answers nothing: its share is 0")
        total = sum(one.share for one in self.arms)
        if not math.isclose(total, 1.0, abs_tol=SHARE_TOLERANCE):
            raise ValueError(f"the arms' shares add up to {total:g}, not to 1")
        return self


class Verdict(StrEnum):
    """What became of a model that was to be loaded."""

    READY = "ready"
    REFUSED = "refused"
    RETIRED = "retired"


class GoldenResult(Part):
    """How a model did on its golden samples. `worst` is the largest deviation found, in the tolerance's measure."""

    samples: Count
    passed: bool
    worst: Annotated[float, Field(ge=0.0, le=1e12)]
    tolerance: Annotated[float, Field(ge=0.0, le=1e12)]


class ModelJudged(Message):
    """A worker loaded a model and it may serve, or it was refused and why, or it was unloaded."""

    KIND: ClassVar[str] = "model.judged"

    worker_id: Label
    verdict: Verdict
    model: ModelRef
    source: Annotated[str, Field(max_length=1_000)] = Field(description="Where it was loaded from.")
    scenarios: Annotated[list[Slug], Field(max_length=256)] = Field(default_factory=list)
    reason: Annotated[str, Field(max_length=64)] = Field(
        default="", description="Refused: not_found, unsafe, digest, manifest, memory, golden, load_error, ..."
    )
    message: Annotated[str, Field(max_length=2_000)] = ""
    load_ms: Milliseconds = 0.0
    memory_forecast_bytes: Count = 0
    memory_bytes: Count = Field(default=0, description="Memory that it took, as measured.")
    golden: GoldenResult | None = None


DEPLOYMENT_KINDS: tuple[type[DeploymentChanged]] = (DeploymentChanged,)
MODEL_EVENT_KINDS: tuple[type[ModelJudged]] = (ModelJudged,)

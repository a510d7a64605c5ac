"""Settings of the scaler (`INFERWATCH_SCALING_*`)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from inference_workers.scaling.policy import ScalingPolicy
from infra.settings import PREFIX, Settings


class ScalingSettings(Settings):
    """What the group of workers is scaled for. It tells `inferwatch_desired_workers`; an autoscaler acts on it."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX + "SCALING_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    look_seconds: Annotated[float, Field(ge=0, le=3_600)] = Field(
        default=5.0, description="How often a worker looks at the group's lag, seconds; 0: never."
    )
    target_seconds: Annotated[float, Field(gt=0, le=86_400)] = Field(
        default=2.0,
        description="What waits shall be done within so long. Search and recommendation wait no longer for an answer.",
    )
    workers_min: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=1, description="Fewest workers. One at least: it is a worker that says how many are needed."
    )
    workers_max: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=1_000, description="Most workers. More than the topic has partitions are never asked for."
    )
    utilisation: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.8, description="Share of a worker's time that is planned for; the rest is room for bursts."
    )
    grow_seconds: Annotated[float, Field(ge=0, le=3_600)] = Field(
        default=15.0, description="More workers are asked for when they were needed for so long: no look is a trend."
    )
    shrink_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=300.0,
        description="Fewer are asked for when no more were needed for so long: a worker takes seconds to come back.",
    )

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        if self.workers_min > self.workers_max:
            raise ValueError(f"workers_min {self.workers_min} is above workers_max {self.workers_max}")
        return self

    @property
    def policy(self) -> ScalingPolicy:
        """The same for the pure part."""
        return ScalingPolicy(
            target_seconds=self.target_seconds,
            workers_min=self.workers_min,
            workers_max=self.workers_max,
            utilisation=self.utilisation,
            grow_seconds=self.grow_seconds,
            shrink_seconds=self.shrink_seconds,
        )

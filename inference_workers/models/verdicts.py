"""What became of a model that was to be loaded: why it is refused, what loading it took, and the event that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from infra.settings import SettingsError
from schemas.base import INT64_MAX
from schemas.deployments import GoldenResult, ModelJudged, Verdict
from schemas.predictions import ModelRef


class Refusal(StrEnum):
    """Why a model is refused; the `reason` of `model.judged`."""

    NOT_FOUND = "not_found"
    UNSAFE = "unsafe"
    MANIFEST = "manifest"
    DIGEST = "digest"
    MEMORY = "memory"
    GOLDEN = "golden"
    UNSUPPORTED = "unsupported"
    LOAD_ERROR = "load_error"


@dataclass(slots=True)
class LoadFacts:
    """What is known of a model so far; grows while it is loaded, and is whole when it serves.

    `source` is where it comes from, `memory_bytes` what it took as measured. `manifest` is the file that listed it,
    empty when there was none.
    """

    ref: ModelRef
    source: str
    load_ms: float = 0.0
    forecast_bytes: int = 0
    memory_bytes: int = 0
    manifest: str = ""
    golden: GoldenResult | None = None


class ModelRefused(SettingsError):
    """A model that will not be served. A worker whose own model it is ends with exit code 78; a deployment's is told.

    The text names the model, why, and the ways out; `reason` is for programs; `facts` is what was found out before.
    """

    def __init__(self, reason: Refusal | str, message: str) -> None:
        super().__init__(message)
        self.reason = Refusal(reason)
        self.facts: LoadFacts | None = None


class LoadingStopped(Exception):
    """The process was told to stop while it loaded a model: nothing of it is held, and nothing is said of the model."""


def refuse(reason: Refusal, source: str, why: str, ways_out: str) -> ModelRefused:
    """The error for a model in the house's words. `source` is what it was asked for by; `ways_out` as `a; or b`."""
    return ModelRefused(reason, f"model {source}: {why}. Ways out: {ways_out}.")


def judged(
    worker_id: str,
    facts: LoadFacts,
    *,
    refusal: ModelRefused | None = None,
    scenarios: Sequence[str] = (),
    verdict: Verdict = Verdict.READY,
) -> ModelJudged:
    """The event for the topic `model.events`: ready, or refused and why; `verdict` RETIRED when it was unloaded."""
    return ModelJudged(
        worker_id=worker_id,
        verdict=verdict if refusal is None else Verdict.REFUSED,
        model=facts.ref,
        source=facts.source[:1_000],
        scenarios=list(scenarios)[:256],
        reason="" if refusal is None else refusal.reason.value,
        message="" if refusal is None else str(refusal)[:2_000],
        load_ms=max(0.0, facts.load_ms),
        memory_forecast_bytes=min(INT64_MAX, max(0, facts.forecast_bytes)),
        memory_bytes=max(0, facts.memory_bytes),
        golden=facts.golden,
    )

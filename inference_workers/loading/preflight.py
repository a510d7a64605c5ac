"""What is asked of a model before any of it is loaded: safe, whole, the right one, readable, and small enough."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from inference_workers.golden import Golden, golden_for
from inference_workers.loading.device import DeviceFacts
from inference_workers.models.forecast import Forecast, forecast, shape_of, shortage
from inference_workers.models.manifest import check_manifest, read_manifest
from inference_workers.models.registry import ModelFolder, find_model
from inference_workers.models.tokenise import Tokeniser
from inference_workers.models.verdicts import LoadFacts, Refusal, refuse
from inference_workers.models.weight_headers import weight_facts
from inference_workers.spec import WorkerSettings
from schemas.deployments import Arm

LOG = logging.getLogger(__name__)
LESS_MEMORY = (
    "free memory, or give the worker more; or lower INFERWATCH_WORKER_BATCH_TOKENS_MAX, take a smaller number type "
    "(INFERWATCH_WORKER_DTYPE), or serve a smaller model"
)


@dataclass(frozen=True, slots=True)
class ModelWanted:
    """Which model is to be loaded, what it is called, and the digest that its weights must have when one is given."""

    model: str
    model_name: str
    version: str
    revision: str | None = None
    digest: str | None = None
    golden: Path | None = None

    @classmethod
    def of_settings(cls, settings: WorkerSettings) -> Self:
        """The worker's own model."""
        one = settings
        return cls(one.model, one.model_name, one.version, one.revision, one.digest, one.golden)

    @classmethod
    def of_arm(cls, arm: Arm) -> Self:
        """The model of a deployment's arm."""
        return cls(arm.model, arm.model_name, arm.version, arm.revision, arm.digest)


def locate(wanted: ModelWanted, settings: WorkerSettings) -> ModelFolder:
    """The model's folder, with the settings' limit of tokens. May fetch it. Raises ModelRefused."""
    model = find_model(wanted.model, revision=wanted.revision, offline=settings.offline)
    if settings.tokens_max is None:
        return model
    return replace(model, tokens_max=min(model.tokens_max, settings.tokens_max))


def check_files(model: ModelFolder, wanted: ModelWanted, settings: WorkerSettings, facts: LoadFacts) -> None:
    """Manifest and digest. Reads every file once. Raises ModelRefused when they are not what they should be."""
    manifest = read_manifest(model.path, model.source)
    if manifest is not None:
        check_manifest(model.path, manifest, model.source)
        facts.manifest = manifest.file
    elif settings.manifest_required:
        raise refuse(
            Refusal.MANIFEST,
            model.source,
            "it has no manifest, and manifest_required is set",
            "write one where you trust the files: `inferwatch model manifest FOLDER`; or unset it",
        )
    facts.ref = facts.ref.model_copy(update={"digest": model.digest})
    if wanted.digest is not None and wanted.digest != model.digest:
        why = f"its weights have digest {model.digest}, {wanted.digest} was asked for"
        raise refuse(Refusal.DIGEST, model.source, why, "name the right version of the model; or correct the digest")


def memory_forecast(model: ModelFolder, settings: WorkerSettings, here: DeviceFacts) -> Forecast:
    """What the model will take here, from the headers of its weights. Raises ModelRefused for weights cut short."""
    return forecast(
        weight_facts(model.weights, model.source),
        model.config,
        model.head,
        dtype=here.dtype,
        device=here.device,
        tokens=settings.batch_tokens_max,
        items=settings.batch_requests_max,
    )


def check_memory(model: ModelFolder, settings: WorkerSettings, here: DeviceFacts, facts: LoadFacts) -> None:
    """Compare the forecast with what is free. Raises ModelRefused when it does not fit, unless a warning is enough."""
    wanted = memory_forecast(model, settings, here)
    facts.forecast_bytes = wanted.total_bytes
    why = shortage(wanted, here.free())
    if why is not None and settings.memory_forecast == "refuse":
        raise refuse(Refusal.MEMORY, model.source, why, f"{LESS_MEMORY}; or set memory_forecast to warn")
    if why is not None:
        LOG.warning("model %s is loaded all the same: %s", model.source, why)


def golden_of(model: ModelFolder, wanted: ModelWanted, settings: WorkerSettings) -> tuple[Golden | None, str]:
    """The golden samples and their file. Raises ModelRefused when there must be some and are none."""
    golden, file = golden_for(model, wanted.golden)
    if golden is None and settings.golden_required:
        why = "it has no golden samples, and golden_required is set"
        raise refuse(Refusal.GOLDEN, model.source, why, "record some with `inferwatch model golden`; or unset it")
    return golden, file


def tokeniser_of(model: ModelFolder, settings: WorkerSettings) -> Tokeniser:
    """The model's tokeniser. Raises ModelRefused for one that is missing, broken, or of another vocabulary."""
    try:
        tokeniser = Tokeniser(model.path, tokens_max=model.tokens_max, text_bytes_max=settings.text_bytes_max)
    except (OSError, ValueError, AttributeError, TypeError) as error:  # the last two: JSON of another shape
        why = f"its tokeniser cannot be used: {error}"
        ways_out = "save it with `tokenizer.save_pretrained`, which writes tokenizer.json; or name another model"
        raise refuse(Refusal.UNSUPPORTED, model.source, why, ways_out) from None
    vocabulary = shape_of(model.config).vocabulary
    if 0 < vocabulary < tokeniser.vocabulary:
        # On CUDA a token beyond the embeddings poisons the device for the whole process.
        why = f"its tokeniser knows {tokeniser.vocabulary} tokens and its config.json {vocabulary}"
        raise refuse(Refusal.UNSUPPORTED, model.source, why, "copy tokeniser and weights from one place; or mend it")
    return tokeniser

"""From a model's folder to a warmed engine: which head, which implementation, with which numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from safetensors import safe_open
from torch import Tensor

from inference_workers.engines.bert import BertEncoder, is_plain_bert
from inference_workers.engines.logits import BertClassifier, LogitEngine, is_multi_label
from inference_workers.engines.placement import Placement, placement_of
from inference_workers.engines.vectors import VectorEngine
from inference_workers.models.registry import ModelFolder
from inference_workers.ports import Engine, EngineError, Head, Item, Sampling
from inference_workers.spec import WorkerSettings, check_limits, refused

WARM_UP_LENGTHS: tuple[tuple[int, ...], ...] = ((4, 8, 5), (6, 6), (6,))
"""Lengths of a few items: uneven, even, and alone. torch.compile makes a program for each of these cases."""


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """A warmed engine and what the worker must know of its model.

    `labels` name its logits in order, empty for other heads; `multi_label`: each of them is a probability of its own.
    `images`: it takes items with pixels. `description` names device and number type, for telemetry.
    """

    engine: Engine
    head: Head
    labels: Sequence[str]
    multi_label: bool
    images: bool
    description: str


def load_engine(settings: WorkerSettings, model: ModelFolder) -> LoadedEngine:
    """Load a model as the settings say and warm it up. Blocks for seconds.

    Raises SettingsError for what cannot work here; EngineError when the model cannot compute; what Transformers raises,
    or KeyError, for weights that do not fit the configuration.
    """
    head = model.head
    check_limits(settings, model.tokens_max)
    placement = placement_of(settings, head)
    engine: Engine
    labels: Sequence[str] = ()
    images = False
    if head is Head.LOGITS:
        logits = _logit_engine(model, placement)
        engine, labels = logits, logits.labels
    elif head is Head.TOKENS:
        from inference_workers.engines.tokens import TokenEngine

        engine = TokenEngine(model, placement, cache_tokens_max=settings.batch_tokens_max)
    elif model.config.get("model_type") == "clip":
        from inference_workers.engines.clip import ClipEngine

        engine, images = ClipEngine(model, placement), True
    else:
        engine = _vector_engine(model, placement)
    try:
        _warm_up(engine, settings)
    except BaseException:
        engine.close()
        raise
    multi_label = head is Head.LOGITS and is_multi_label(model.config, len(labels))
    return LoadedEngine(engine, head, labels, multi_label, images, placement.description)


def _vector_engine(model: ModelFolder, placement: Placement) -> VectorEngine:
    if is_plain_bert(model.config):
        encoder: Any = BertEncoder(model.config, weights_of(model), placement)
    else:
        from inference_workers.engines.from_transformers import PaddedEncoder

        encoder = PaddedEncoder(model, placement)
    return VectorEngine(encoder, model.pooling, normalise=model.normalise, placement=placement)


def _logit_engine(model: ModelFolder, placement: Placement) -> LogitEngine:
    if is_plain_bert(model.config):
        return LogitEngine(BertClassifier(model.config, weights_of(model), placement), placement)
    from inference_workers.engines.from_transformers import PaddedClassifier

    return LogitEngine(PaddedClassifier(model, placement), placement)


def weights_of(model: ModelFolder) -> dict[str, Tensor]:
    """The model's tensors by name, from all its files."""
    weights: dict[str, Tensor] = {}
    for path in model.weights:
        with safe_open(path, framework="pt") as file:
            weights.update((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
    return weights


def _warm_up(engine: Engine, settings: WorkerSettings) -> None:
    """The first passes build kernels; the first request shall not wait for that."""
    sampling = Sampling(2) if engine.head is Head.TOKENS else None
    try:
        for lengths in WARM_UP_LENGTHS if settings.compile else WARM_UP_LENGTHS[:1]:
            engine.compute([Item([0] * length, b"", sampling=sampling, cost=length) for length in lengths])
    except EngineError as error:
        if not settings.compile:
            raise
        why = f"torch.compile failed: {str(error)[:300]}"
        raise refused(
            "compile", True, why, "set it to false; or install a C++ compiler and Python's headers, which it needs"
        ) from None

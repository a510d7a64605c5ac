"""Any architecture that Transformers knows, padded: states, logits. Its import takes seconds and happens when used."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from inference_workers.engines.bert import Encoded
from inference_workers.engines.inputs import InputLimit, limit_of, pad
from inference_workers.engines.logits import labels_of
from inference_workers.engines.placement import Placement
from inference_workers.engines.quantised import quantise
from inference_workers.models.registry import ModelFolder
from inference_workers.ports import Item

LOG = logging.getLogger(__name__)


def load(kind: str, model: ModelFolder, placement: Placement) -> Any:
    """The model as the class `kind` of Transformers, such as AutoModel. Local safetensors, no code of the model's.

    Raises what Transformers raises for files that do not fit its classes: OSError, ValueError, RuntimeError.
    """
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # it warns of torchao's own registrations
    import transformers
    from transformers.utils import logging as words

    words.disable_progress_bar()
    found = getattr(transformers, kind).from_pretrained(
        str(model.path), local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=placement.dtype
    )
    found.eval().requires_grad_(False).to(placement.device)
    if placement.int8:
        quantise(found, skipped=found.get_output_embeddings())
    LOG.info("model type %s: computed by transformers as %s", model.config.get("model_type"), type(found).__name__)
    return found


class PaddedEncoder:
    """An `Encoder`: the last hidden states of any encoder, or of a decoder without what makes tokens of its states.

    Padding comes after the tokens. Where attention is causal no token sees it, and positions count from 0 as alone.
    """

    def __init__(self, model: ModelFolder, placement: Placement) -> None:
        self._placement = placement
        self._model = load("AutoModel", model, placement)
        # A decoder would keep every layer's keys and values for tokens to come, and here none do.
        self._model.config.use_cache = False
        self._inputs = _Inputs(self._model, limit_of(model.config), placement)
        if placement.compiled:
            self._model.compile(dynamic=True)

    def encode(self, items: Sequence[Item], *, first_only: bool = False) -> Encoded:
        """See `Encoder.encode`."""
        given, tokens = self._inputs.of(items)
        states = self._model(**given).last_hidden_state
        mask = given["attention_mask"]
        states = states[:, 0] if first_only else states[mask.bool()]
        return Encoded(states, mask.sum(1), tokens)


class PaddedClassifier:
    """A `Classifier`: the logits of any *ForSequenceClassification."""

    def __init__(self, model: ModelFolder, placement: Placement) -> None:
        self._model = load("AutoModelForSequenceClassification", model, placement)
        config = self._model.config
        self.labels = labels_of(config.id2label, config.num_labels)
        self._inputs = _Inputs(self._model, limit_of(model.config), placement)
        # A decoder's last token is found by the padding's id; without one Transformers takes a single input at once.
        self._alone = getattr(config, "pad_token_id", None) is None
        if placement.compiled:
            self._model.compile(dynamic=True)

    def logits(self, items: Sequence[Item]) -> tuple[Tensor, int]:
        """See `Classifier.logits`."""
        found, tokens = [], 0
        for part in [[item] for item in items] if self._alone else [items]:
            given, computed = self._inputs.of(part)
            found.append(self._model(**given).logits)
            tokens += computed
        return torch.cat(found), tokens


class _Inputs:
    """Items as a model's keyword arguments."""

    def __init__(self, model: Any, limit: InputLimit, placement: Placement) -> None:
        self._limit = limit
        self._staging = placement.staging
        self._padding = int(getattr(model.config, "pad_token_id", None) or 0)
        takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
        self._types = takes_types and limit.types > 1

    def of(self, items: Sequence[Item]) -> tuple[dict[str, Tensor], int]:
        """The arguments, and how many tokens they are with padding."""
        padded = pad(items, self._limit, self._padding)
        arrays = {"input_ids": padded.ids, "attention_mask": padded.mask}
        if self._types:
            arrays["token_type_ids"] = padded.types
        there = [one.long() for one in self._staging.send(list(arrays.values()))]
        return dict(zip(arrays, there, strict=True)), padded.ids.size

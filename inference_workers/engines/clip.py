"""CLIP (Radford et al., 2021): texts and images as vectors of one space, normalised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from inference_workers.engines.failures import computed
from inference_workers.engines.from_transformers import load
from inference_workers.engines.inputs import limit_of, pad
from inference_workers.engines.placement import Placement
from inference_workers.engines.staging import Array
from inference_workers.engines.vectors import vectors_of
from inference_workers.models.registry import ModelFolder
from inference_workers.ports import EngineError, Forward, Head, Item


class ClipEngine:
    """An `Engine` with `Head.VECTORS`, for items with `pixels` and without. Both may be in one pass."""

    head = Head.VECTORS

    def __init__(self, model: ModelFolder, placement: Placement) -> None:
        self._placement = placement
        self._model = load("CLIPModel", model, placement)
        config = self._model.config
        self._limit = limit_of(config.text_config.to_dict())
        # Attention looks back only and the first end is the one that counts: what follows it changes nothing.
        self._padding = int(config.text_config.eos_token_id)
        side = int(config.vision_config.image_size)
        self._shape = (int(config.vision_config.num_channels), side, side)
        self._patches = (side // int(config.vision_config.patch_size)) ** 2 + 1
        if placement.compiled:
            self._model.text_model.compile(dynamic=True)
            self._model.vision_model.compile(dynamic=True)

    def compute(self, items: Sequence[Item]) -> Forward:
        """See `Engine.compute`. Raises EngineError for pixels of another shape than the model's."""
        return computed(lambda: self._forward(items))

    def memory_bytes(self) -> int:
        """See `Engine.memory_bytes`."""
        return self._placement.memory_bytes()

    def close(self) -> None:
        """See `Engine.close`."""
        del self._model
        self._placement.release()

    def _forward(self, items: Sequence[Item]) -> Forward:
        texts = [number for number, item in enumerate(items) if item.pixels is None]
        images = [number for number, item in enumerate(items) if item.pixels is not None]
        arrays: list[Array] = []
        if texts:
            padded = pad([items[number] for number in texts], self._limit, self._padding)
            arrays += [padded.ids, padded.mask]
        if images:
            arrays.append(self._pixels([items[number] for number in images]))
        order = np.argsort(np.array(texts + images)).astype(np.int32)
        *there, back = self._placement.staging.send([*arrays, order])
        found: list[Tensor] = []
        tokens = 0
        if texts:
            ids, mask = (one.long() for one in there[:2])
            found.append(self._model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output)
            tokens += ids.numel()
        if images:
            pixels = there[-1].to(self._placement.dtype)
            found.append(self._model.get_image_features(pixel_values=pixels).pooler_output)
            tokens += len(images) * self._patches
        return vectors_of(torch.cat(found).float()[back.long()], normalise=True, tokens_computed=tokens)

    def _pixels(self, items: Sequence[Item]) -> Array:
        pixels = [np.asarray(item.pixels, np.float32) for item in items]
        wrong = {one.shape for one in pixels} - {self._shape}
        if wrong:
            raise EngineError(f"an image of shape {wrong.pop()} for a model of {self._shape}")
        return np.stack(pixels)

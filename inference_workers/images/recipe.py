"""How a model wants its images: the steps of Transformers' `CLIPImageProcessor`, read from the model's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from inference_workers.ports import Floats

BICUBIC = 3
"""Pillow's number, which is what the files hold."""
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
SIDE = 224
FILES = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    """Resize, crop the centre, scale, normalise. Sizes are (height, width) in pixels, None for a step left out.

    `shortest` resizes by the shorter side and keeps the proportions; `exact` does not. `cost` is what an image counts
    for in a batch's budget: the model's patches.
    """

    shortest: int | None = SIDE
    exact: tuple[int, int] | None = None
    crop: tuple[int, int] | None = (SIDE, SIDE)
    resample: int = BICUBIC
    scale: float | None = 1 / 255
    mean: tuple[float, float, float] | None = CLIP_MEAN
    std: tuple[float, float, float] | None = CLIP_STD
    cost: int = 50

    @classmethod
    def of_model(cls, folder: Path, config: Mapping[str, Any]) -> Self:
        """The recipe in a model's folder; `config` is its config.json. Raises ValueError for what is not known."""
        said = _said(folder)
        vision = config.get("vision_config") or {}
        patches = int(vision.get("image_size", SIDE)) // max(1, int(vision.get("patch_size", 32)))
        try:
            shortest, exact = _resize_of(said.get("size", {"shortest_edge": SIDE}))
            resizes, crops = bool(said.get("do_resize", True)), bool(said.get("do_center_crop", True))
            normalises = bool(said.get("do_normalize", True))
            return cls(
                shortest=shortest if resizes else None,
                exact=exact if resizes else None,
                crop=_both(said.get("crop_size", SIDE)) if crops else None,
                resample=int(Image.Resampling(int(said.get("resample", BICUBIC)))),
                scale=float(said.get("rescale_factor", 1 / 255)) if said.get("do_rescale", True) else None,
                mean=_colours(said.get("image_mean", CLIP_MEAN)) if normalises else None,
                std=_colours(said.get("image_std", CLIP_STD)) if normalises else None,
                cost=patches**2 + 1,
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"its image processor's settings are not understood: {error!r}") from None

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after resizing."""
        if self.exact is not None:
            return self.exact[1], self.exact[0]
        if self.shortest is None:
            return width, height
        longer = int(self.shortest * max(width, height) / min(width, height))
        return (self.shortest, longer) if width <= height else (longer, self.shortest)


def pixels_of(image: Image.Image, recipe: ImageRecipe) -> Floats:
    """[3, height, width] of an RGB image."""
    size = recipe.resized(*image.size)
    if size != image.size:
        image = image.resize(size, resample=Image.Resampling(recipe.resample))
    pixels = np.asarray(image)
    if recipe.crop is not None:
        pixels = _cropped(pixels, *recipe.crop)
    wide = pixels.astype(np.float64)
    if recipe.scale is not None:
        wide *= recipe.scale
    found = wide.astype(np.float32)
    if recipe.mean is not None and recipe.std is not None:
        found -= np.array(recipe.mean, np.float32)
        found /= np.array(recipe.std, np.float32)
    return np.ascontiguousarray(found.transpose(2, 0, 1))


def _cropped(pixels: Any, height: int, width: int) -> Any:
    """The centre of [h, w, 3]; where it is smaller, black around it."""
    own_height, own_width = pixels.shape[:2]
    top, left = (own_height - height) // 2, (own_width - width) // 2
    if top >= 0 and left >= 0:
        return pixels[top : top + height, left : left + width]
    canvas = np.zeros((max(height, own_height), max(width, own_width), 3), pixels.dtype)
    # Transformers rounds the border up.
    above, before = (canvas.shape[0] - own_height + 1) // 2, (canvas.shape[1] - own_width + 1) // 2
    canvas[above : above + own_height, before : before + own_width] = pixels
    top, left = top + above, left + before
    return canvas[max(0, top) : top + height, max(0, left) : left + width]


def _said(folder: Path) -> dict[str, Any]:
    for name in FILES:
        try:
            found = json.loads((folder / name).read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ValueError(f"{name} cannot be read: {error}") from None
        said = found.get("image_processor", found) if isinstance(found, dict) else None
        if not isinstance(said, dict):
            raise ValueError(f"{name} holds no settings")
        return said
    raise ValueError(f"it has none of {', '.join(FILES)}, which say how images are made into pixels")


def _resize_of(size: Any) -> tuple[int | None, tuple[int, int] | None]:
    if isinstance(size, int):
        return size, None
    if "shortest_edge" in size:
        return int(size["shortest_edge"]), None
    return None, (int(size["height"]), int(size["width"]))


def _both(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size["height"]), int(size["width"]))


def _colours(said: Any) -> tuple[float, float, float]:
    red, green, blue = (float(one) for one in said)
    return red, green, blue

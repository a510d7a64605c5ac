"""Images that requests name: fetched from one local folder, judged before they are decoded, made into pixels.

The door to Pillow. Names come from whoever may write requests, and files from whoever may write into the folder:
neither is trusted. The pixels equal those of Transformers' `CLIPImageProcessor`; a test holds them to it.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from inference_workers.images.recipe import ImageRecipe, pixels_of
from inference_workers.ports import Floats, Item
from inference_workers.spec import WorkerSettings, refused
from inference_workers.tasks.inputs import Refused
from schemas.requests import ImageReference

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
"""Pillow's names. No other of its decoders is ever tried."""
SHOWN_CHARACTERS = 200
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class ImageRefused(Refused):
    """An image that cannot be taken: `reason` for programs, the text for people. It names no folder of this machine.

    Reasons: image_not_found, image_outside_folder, image_media_type, image_too_large, image_undecodable.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason


class ImageFolder:
    """An `ImageSource`: what a request names, as an item with pixels. For any thread; reading and decoding block."""

    def __init__(self, folder: Path, recipe: ImageRecipe, *, bytes_max: int, pixels_max: int) -> None:
        """Raises OSError when there is no such folder."""
        self._folder = folder.resolve(strict=True)
        self._recipe = recipe
        self._bytes_max = bytes_max
        self._pixels_max = pixels_max

    def __call__(self, reference: ImageReference) -> Item:
        """The image as the model sees it. Equal files have equal content. Raises ImageRefused."""
        shown = repr(reference.name[:SHOWN_CHARACTERS])
        raw = self._read(reference.name, shown)
        pixels = self._pixels(raw, FORMATS[reference.media_type], shown)
        return Item(
            (), b"image|" + hashlib.blake2b(raw, digest_size=16).digest(), pixels=pixels, cost=self._recipe.cost
        )

    def _read(self, name: str, shown: str) -> bytes:
        try:
            path = (self._folder / name).resolve(strict=True)  # follows links: where they lead is what counts
            if not path.is_relative_to(self._folder):
                raise ImageRefused("image_outside_folder", f"{shown} leads out of the image folder")
            with os.fdopen(os.open(path, _FLAGS), "rb") as file:
                facts = os.fstat(file.fileno())
                if not stat.S_ISREG(facts.st_mode):
                    raise ImageRefused("image_not_found", f"{shown} is no file")
                if facts.st_size > self._bytes_max:
                    raise self._too_many_bytes(shown)
                raw = file.read(self._bytes_max + 1)
        except (OSError, ValueError, RuntimeError):  # not there, not readable, no possible name, a ring of links
            raise ImageRefused("image_not_found", f"{shown} is not in the image folder or cannot be read") from None
        if len(raw) > self._bytes_max:  # it grew
            raise self._too_many_bytes(shown)
        return raw

    def _too_many_bytes(self, shown: str) -> ImageRefused:
        return ImageRefused("image_too_large", f"{shown} has more than {self._bytes_max} bytes")

    def _pixels(self, raw: bytes, wanted: str, shown: str) -> Floats:
        try:
            with Image.open(io.BytesIO(raw), formats=tuple(FORMATS.values())) as image:
                if image.format != wanted:
                    raise ImageRefused("image_media_type", f"{shown} is {image.format}, {wanted} was announced")
                # Twice: as it is stored, and as the recipe would enlarge a narrow one.
                for width, height in (image.size, self._recipe.resized(*image.size)):
                    if width * height > self._pixels_max:
                        why = f"{shown} would take {width} x {height} pixels, {self._pixels_max} are allowed"
                        raise ImageRefused("image_too_large", why)
                upright = ImageOps.exif_transpose(image)
                return pixels_of(upright.convert("RGB"), self._recipe)
        except Refused:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise ImageRefused("image_too_large", f"{shown} would take more pixels than any image may") from None
        except Exception as error:  # decoders raise whatever a broken file makes them
            why = f"{shown} cannot be decoded: {type(error).__name__}"
            raise ImageRefused("image_undecodable", why) from None


def image_source(settings: WorkerSettings, model: Path, config: Any) -> ImageFolder | None:
    """The source of images for a model's folder and its config.json; None where no folder of images is set.

    Raises SettingsError when the folder is not there or the model does not say how images are made into pixels.
    """
    if settings.image_folder is None:
        return None
    try:
        recipe = ImageRecipe.of_model(model, config)
    except ValueError as error:
        ways_out = "copy the model with its preprocessor_config.json; or name another model"
        raise refused("model", model.name, str(error), ways_out) from None
    try:
        return ImageFolder(
            settings.image_folder, recipe, bytes_max=settings.image_bytes_max, pixels_max=settings.image_pixels_max
        )
    except OSError as error:
        why = f"it is no folder that can be read ({error.strerror})"
        raise refused("image_folder", settings.image_folder, why, "make it; or unset it to serve no images") from None

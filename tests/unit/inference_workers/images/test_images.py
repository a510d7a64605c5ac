"""Images by reference: pixels as Transformers makes them; nothing from outside the folder, nothing too large."""

import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from inference_workers.images.folder import ImageFolder, ImageRefused, image_source
from inference_workers.images.recipe import ImageRecipe, pixels_of
from inference_workers.tasks.inputs import Refused
from infra.settings import SettingsError
from schemas.requests import ImageReference
from tests.built_models import settings_of

SUFFIX = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
PIXELS_MAX = 200_000
BYTES_MAX = 100_000


def picture(width=50, height=40, mode="RGB", seed=0):
    channels = len(Image.new(mode, (1, 1)).getbands())
    numbers = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return (
        Image.fromarray(numbers if channels > 1 else numbers[:, :, 0], mode) if mode != "P" else picture().quantize(9)
    )


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


@pytest.fixture
def source(folder):
    return ImageFolder(folder, ImageRecipe(), bytes_max=BYTES_MAX, pixels_max=PIXELS_MAX)


def reference(name, media_type="image/png"):
    return ImageReference(name=name, media_type=media_type)


def reason_of(source, name, media_type="image/png"):
    with pytest.raises(ImageRefused) as refusal:
        source(reference(name, media_type))
    assert refusal.value.code == refusal.value.reason
    assert isinstance(refusal.value, Refused), "what the worker's core catches"
    assert str(source._folder) not in str(refusal.value), "no place of this machine is told"
    return refusal.value.reason


RECIPES = [
    {},
    {"size": {"shortest_edge": 30}, "crop_size": {"height": 40, "width": 24}, "resample": 2},
    {"size": {"height": 33, "width": 21}, "crop_size": {"height": 20, "width": 20}, "resample": 1},
    {"size": 25, "crop_size": 31, "do_normalize": False},
    {"do_resize": False, "crop_size": 47, "do_rescale": False},
    {"do_center_crop": False, "size": {"shortest_edge": 17}},
]


@pytest.mark.parametrize("said", RECIPES)
@pytest.mark.parametrize(("width", "height"), [(50, 40), (40, 51), (33, 33), (224, 224), (90, 20)])
def test_pixels_are_those_of_transformers(tmp_path, said, width, height):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(**said)
    processor.save_pretrained(tmp_path)
    recipe = ImageRecipe.of_model(tmp_path, {})
    image = picture(width, height)
    expected = processor(images=image, return_tensors="np")["pixel_values"][0]
    found = pixels_of(image, recipe)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-6


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_file_is_read_as_transformers_reads_it(folder, source, kind, mode):
    from transformers.image_utils import load_image
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    image = picture(mode=mode)
    if (kind, mode) in [("PNG", "CMYK"), ("WEBP", "CMYK"), ("JPEG", "RGBA"), ("JPEG", "P")]:
        image = image.convert("RGB")
    path = folder / "one"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    path.write_bytes(encoded(image, kind, exif=exif.tobytes()))
    item = source(reference("one", SUFFIX[kind]))
    expected = CLIPImageProcessorPil()(images=load_image(str(path)), return_tensors="np")["pixel_values"][0]
    assert np.abs(item.pixels - expected).max() < 1e-6
    assert (item.ids, item.cost) == ((), 50)


def test_equal_files_have_equal_content(folder, source):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (folder / name).write_bytes(encoded(picture(seed=seed)))
    a, b, c = (source(reference(name)).content for name in "abc")
    assert a == b != c


def test_no_path_leads_out_of_the_folder(tmp_path, folder, source):
    (tmp_path / "secret.png").write_bytes(encoded(picture()))
    (folder / "inside").mkdir()
    (folder / "inside" / "one.png").write_bytes(encoded(picture()))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "up").symlink_to(tmp_path, target_is_directory=True)
    (folder / "fine.png").symlink_to(folder / "inside" / "one.png")
    (folder / "ring").symlink_to(folder / "ring")
    for name in ("../secret.png", str(tmp_path / "secret.png"), "link.png", "up/secret.png", "inside/../../secret.png"):
        assert reason_of(source, name) == "image_outside_folder"
    for name in ("none.png", "ring", "inside", ".", "inside/one.png/x", "é" * 400, "a" * 500):
        assert reason_of(source, name) == "image_not_found"
    assert source(reference("fine.png")).pixels is not None
    assert source(reference("inside/../inside/one.png")).pixels is not None


def test_a_pipe_is_no_file_and_does_not_hang(folder, source):
    os.mkfifo(folder / "pipe")
    assert reason_of(source, "pipe") == "image_not_found"


@pytest.mark.parametrize("is_", SUFFIX)
@pytest.mark.parametrize("said", SUFFIX)
def test_the_media_type_must_be_what_the_file_is(folder, source, is_, said):
    (folder / "one").write_bytes(encoded(picture(), is_))
    if is_ == said:
        assert source(reference("one", SUFFIX[said])).pixels.shape == (3, 224, 224)
    else:
        assert reason_of(source, "one", SUFFIX[said]) == "image_media_type"


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_decoders_are_never_tried(folder, source, kind):
    (folder / "one").write_bytes(encoded(picture(), kind))
    assert reason_of(source, "one") == "image_undecodable"


def bomb(width, height):
    """A PNG of zeros that says it has so many pixels, and hardly any bytes."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 10_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_what_is_too_large_is_refused_before_it_is_decoded(folder, source):
    (folder / "bytes").write_bytes(encoded(picture(180, 180)) + b"\0" * BYTES_MAX)
    assert reason_of(source, "bytes") == "image_too_large"
    sizes = [(1_000, 1_000), (10_000, 10_000), (30_000, 30_000), (1, 150_000), (150_000, 1), (2**31 - 1, 2**31 - 1)]
    for width, height in sizes:
        (folder / "bomb").write_bytes(bomb(width, height))
        assert reason_of(source, "bomb") == "image_too_large", (width, height)


def test_broken_files_are_refused(folder, source):
    good = encoded(picture(), "JPEG")
    cases = [b"", b"\x89PNG\r\n\x1a\n", good[:60], encoded(picture())[:-40], b"<svg/>", bomb(100, 100)]
    for raw in cases:
        (folder / "one").write_bytes(raw)
        for media_type in SUFFIX.values():
            assert reason_of(source, "one", media_type) in ("image_undecodable", "image_media_type")


def test_settings_that_cannot_work_are_refused(tmp_path, folder):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 24, "crop_size": 24}))
    vision = {"vision_config": {"image_size": 24, "patch_size": 8}}
    assert image_source(settings_of(), tmp_path, vision) is None
    made = image_source(settings_of(image_folder=folder), tmp_path, vision)
    (folder / "one.png").write_bytes(encoded(picture()))
    assert (made(reference("one.png")).pixels.shape, made(reference("one.png")).cost) == ((3, 24, 24), 10)
    with pytest.raises(SettingsError, match=r"IMAGE_FOLDER=.*nowhere: .*Ways out: .*; or "):
        image_source(settings_of(image_folder=folder / "nowhere"), tmp_path, vision)
    for broken in ('{"resample": 99}', '{"size": {"width": 3}}', "[]", "{", '{"image_mean": [1]}'):
        (tmp_path / "preprocessor_config.json").write_text(broken)
        with pytest.raises(SettingsError, match=r"MODEL=.*Ways out: .*; or "):
            image_source(settings_of(image_folder=folder), tmp_path, vision)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(SettingsError, match=r"preprocessor_config\.json"):
        image_source(settings_of(image_folder=folder), tmp_path, vision)

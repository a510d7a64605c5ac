"""Golden samples that name images: recorded, tried before the model serves, and told when an image cannot be read."""

import json

import numpy as np
import pytest
from PIL import Image

from inference_workers.golden import Golden, Tolerance, record, write_golden
from inference_workers.loading.load import load_servable, real_outside
from inference_workers.loading.preflight import ModelWanted
from inference_workers.models.verdicts import ModelRefused, Refusal
from inference_workers.tasks.inputs import Refused
from schemas.requests import InferenceRequested
from tests.built_models import build, settings_of

SHOE = {"image": {"name": "shoe.png", "media_type": "image/png"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    build(folder, "CLIPModel")
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 32, "crop_size": 32}))
    return folder


@pytest.fixture
def images(tmp_path):
    draw(tmp_path, seed=1)
    return tmp_path


def draw(images, seed):
    numbers = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(numbers).save(images / "shoe.png")


def load_it(folder, images, golden=None):
    settings = settings_of(model=str(folder), image_folder=images, golden=golden)
    return load_servable(ModelWanted.of_settings(settings), settings, real_outside())


def samples_of(folder, images):
    asked = [{"input": [SHOE, "red shoe"]}, {"input": [SHOE, "blue sofa"], "task": "rerank", "query": "red shoe"}]
    requests = [InferenceRequested.model_validate_json(json.dumps(one)) for one in asked]
    return record(load_it(folder, images).servable, requests, Tolerance())


def test_what_was_recorded_of_an_image_holds_until_another_lies_there(folder, images, tmp_path):
    golden = tmp_path / "golden.json"
    write_golden(golden, samples_of(folder, images))
    found = load_it(folder, images, golden).facts.golden
    assert (found.samples, found.passed) == (2, True)
    draw(images, seed=2)
    with pytest.raises(ModelRefused, match="its answers are not as expected") as refusal:
        load_it(folder, images, golden)
    assert refusal.value.reason is Refusal.GOLDEN


def test_an_image_that_is_not_there_is_told_by_its_name(folder, images, tmp_path):
    golden = tmp_path / "golden.json"
    write_golden(golden, Golden(samples=samples_of(folder, images).samples))
    servable = load_it(folder, images).servable
    (images / "shoe.png").unlink()
    with pytest.raises(ModelRefused, match=r"sample 0 cannot be computed: ImageRefused: 'shoe\.png' is not in") as no:
        load_it(folder, images, golden)
    assert no.value.reason is Refusal.GOLDEN
    with pytest.raises(Refused, match=r"'shoe\.png' is not in the image folder"):
        record(servable, [InferenceRequested(input=[SHOE])], Tolerance())

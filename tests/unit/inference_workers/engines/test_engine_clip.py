"""CLIP: texts and images as Transformers' own model gives them, in any company."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from inference_workers.deployments.routing import RoutingTable, own_route
from inference_workers.engines.clip import ClipEngine
from inference_workers.engines.loading import load_engine
from inference_workers.images.recipe import ImageRecipe, pixels_of
from inference_workers.loading.load import load_servable, real_outside
from inference_workers.loading.preflight import ModelWanted
from inference_workers.ports import EngineError, Head, Item
from schemas.vectors import decode_vector
from tests.built_models import END, CountedCopies, build, item, settings_of
from tests.unit.inference_workers.stand_ins import World

TEXTS = [item(1, 5, 6, 7, END), item(1, END), item(1, 9, 10, 11, 12, 13, END)]
RANDOM = np.random.default_rng(0)
IMAGES = [Item((), b"%d" % n, pixels=RANDOM.normal(size=(3, 32, 32)).astype(np.float32), cost=17) for n in range(3)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build(tmp_path_factory.mktemp("clip"), "CLIPModel")


@pytest.fixture(scope="module")
def engine(model):
    loaded = load_engine(settings_of(), model)
    assert (loaded.head, loaded.images) == (Head.VECTORS, True)
    return loaded.engine


def expected_of(model, items):
    from transformers import CLIPModel

    reference = CLIPModel.from_pretrained(str(model.path)).eval()
    found = []
    with torch.inference_mode():
        for one in items:
            if one.pixels is None:
                told = reference.get_text_features(input_ids=torch.tensor([one.ids]))
            else:
                told = reference.get_image_features(pixel_values=torch.from_numpy(one.pixels)[None])
            found.append(told.pooler_output[0].numpy())
    return np.stack(found)


def test_a_loaded_model_reads_images_from_the_folder_of_the_settings(tmp_path):
    folder, images = tmp_path / "model", tmp_path / "images"
    model = build(folder, "CLIPModel")
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 32, "crop_size": 32}))
    images.mkdir()
    numbers = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(numbers).save(images / "shoe.png")
    settings = settings_of(model=str(folder), image_folder=images, warm_up="none")
    loaded = load_servable(ModelWanted.of_settings(settings), settings, real_outside()).servable
    world = World()
    world.admission.table = RoutingTable(own_route(loaded))
    world.ask(json.dumps({"input": [{"image": {"name": "shoe.png", "media_type": "image/png"}}]}))
    [(_, answer)] = world.run().predictions()
    pixels = pixels_of(Image.fromarray(numbers), ImageRecipe.of_model(folder, model.config))
    [expected] = load_engine(settings, model).engine.compute([Item((), b"", pixels=pixels, cost=17)]).rows
    assert list(decode_vector(answer.outputs[0].vector)) == pytest.approx(list(expected), abs=1e-5)


def test_texts_and_images_equal_transformers_one_by_one(model, engine):
    mixed = [TEXTS[0], IMAGES[0], IMAGES[1], TEXTS[1], IMAGES[2], TEXTS[2]]
    for items in (TEXTS, IMAGES, mixed, mixed[::-1]):
        expected = expected_of(model, items)
        norms = np.linalg.norm(expected, axis=1)
        found = engine.compute(items)
        assert np.abs(found.rows - expected / norms[:, None]).max() < 1e-5
        assert found.norms == pytest.approx(norms, rel=1e-4)
    assert engine.compute(IMAGES).tokens_computed == 3 * 17


def test_the_pipeline_that_ranks_labels_for_an_image_agrees(model, engine):
    """zero-shot classification: softmax over scaled cosines of one image and each text."""
    from transformers import CLIPModel

    reference = CLIPModel.from_pretrained(str(model.path)).eval()
    texts = [item(1, word, 7, END) for word in (5, 6, 8, 9)]
    with torch.inference_mode():
        said = reference(
            input_ids=torch.tensor([one.ids for one in texts]), pixel_values=torch.from_numpy(IMAGES[0].pixels)[None]
        ).logits_per_image[0]
        scale = float(reference.logit_scale.exp())
    rows = engine.compute([IMAGES[0], *texts]).rows
    assert scale * rows[1:] @ rows[0] == pytest.approx(said.numpy(), abs=1e-4)


def test_other_shapes_and_other_tokens_are_refused(engine):
    with pytest.raises(EngineError, match=r"shape \(3, 16, 16\)"):
        engine.compute([IMAGES[0], Item((), b"", pixels=np.zeros((3, 16, 16), np.float32))])
    with pytest.raises(EngineError, match="the model takes 64"):
        engine.compute([Item([5] * 65, b"")])


def test_pixels_that_are_no_numbers_are_an_error(engine):
    with pytest.raises(EngineError, match="NaN or infinity"):
        engine.compute([Item((), b"", pixels=np.full((3, 32, 32), np.nan, np.float32))])


def test_texts_and_images_are_one_copy_to_the_device(model, engine):
    counted = CountedCopies()
    counting = ClipEngine(model, counted.placement)
    for copies, items in enumerate([[*TEXTS, *IMAGES], IMAGES, TEXTS], start=1):
        assert np.abs(counting.compute(items).rows - engine.compute(items).rows).max() < 1e-6
        assert counted.copies == copies

"""Embeddings: equal to Transformers' own models, packed or padded, whatever the number type."""

import numpy as np
import pytest
import torch

from inference_workers.engines.bert import BertEncoder, is_plain_bert
from inference_workers.engines.from_transformers import PaddedEncoder
from inference_workers.engines.loading import load_engine, weights_of
from inference_workers.engines.places import GROUPS_MAX, ROWS_MULTIPLE
from inference_workers.engines.vectors import VectorEngine, pool
from inference_workers.models.registry import Pooling, find_model
from inference_workers.models.tokenise import Tokeniser
from inference_workers.ports import EngineError, Head, Item, NonFiniteOutput
from tests.built_models import END, POSITIONS, VOCABULARY, CountedCopies, build, item, placement, settings_of
from tests.parts import default_model
from tests.tiny_models import with_modules

TEXTS = [
    "red shoes",
    "",
    "🦄",
    "women's waterproof hiking boots size 38 wide fit",
    "tv",
    "ein Sofa für das Wohnzimmer",
    "鞋子 обувь أحذية",
    "\x00 \x07 control \u200b\u202e characters",
    " ".join(["a long description of a very comfortable armchair"] * 80),
]
SOME = [item(5, 9, 7), item(4), item(11, 12, 13, 14, 15, 16), item(3, 3)]


@pytest.fixture(scope="module")
def model():
    return default_model()


@pytest.fixture(scope="module")
def engine(model):
    return load_engine(settings_of(), model).engine


@pytest.fixture(scope="module")
def sequences(model):
    tokeniser = Tokeniser(model.path, tokens_max=model.tokens_max, text_bytes_max=8_192)
    return [Item(one.ids, b"", cost=len(one.ids)) for one in tokeniser.tokenise(TEXTS)]


def cosines(left, right):
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


def states_of(model, items):
    """Transformers' own states of each item, one by one."""
    from transformers import AutoModel

    reference = AutoModel.from_pretrained(str(model.path), local_files_only=True, dtype=torch.float32).eval()
    found = []
    for one in items:
        given = {"input_ids": torch.tensor([one.ids])}
        if one.second is not None:
            given["token_type_ids"] = torch.tensor([[int(at >= one.second) for at in range(len(one.ids))]])
        with torch.inference_mode():
            found.append(reference(**given).last_hidden_state[0])
    return found


def test_the_default_model_equals_transformers_one_by_one(model, engine, sequences):
    means = [states.mean(0) for states in states_of(model, sequences)]
    expected = torch.stack([mean / mean.norm() for mean in means]).numpy()
    found = engine.compute(sequences)
    assert len(sequences[-1].ids) == 256, "cut to what the model reads"
    assert cosines(found.rows, expected).min() >= 0.9999
    assert np.abs(found.rows - expected).max() < 1e-5
    assert np.allclose(found.norms, [float(mean.norm()) for mean in means], rtol=1e-4)
    assert found.rows.dtype == np.dtype("<f4")
    real = sum(len(one.ids) for one in sequences)
    assert real <= found.tokens_computed < real + ROWS_MULTIPLE, "no padding outside attention, but for round numbers"


def test_other_architectures_take_the_padded_way_and_agree(model, engine, sequences):
    padded = VectorEngine(PaddedEncoder(model, placement()), model.pooling, normalise=True, placement=placement())
    found = padded.compute(sequences)
    assert np.abs(found.rows - engine.compute(sequences).rows).max() < 1e-5
    assert found.tokens_computed == len(sequences) * max(len(one.ids) for one in sequences)


@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 0.999), ("float16", 0.999), ("int8", 0.99)])
def test_narrow_numbers_mean_the_same(model, engine, sequences, dtype, least):
    from inference_workers.engines.placement import Placement
    from inference_workers.engines.staging import HostStaging

    # The placement itself, not the settings: a CPU without bfloat16 refuses it, and computes it all the same.
    numbers = torch.float32 if dtype == "int8" else getattr(torch, dtype)
    place = Placement("cpu", numbers, dtype == "int8", False, HostStaging())
    narrow = VectorEngine(
        BertEncoder(model.config, weights_of(model), place), model.pooling, normalise=True, placement=place
    )
    found = narrow.compute(sequences)
    assert cosines(found.rows, engine.compute(sequences).rows).min() >= least
    assert dtype in place.description
    alone = np.concatenate([narrow.compute([one]).rows for one in sequences])
    assert cosines(found.rows, alone).min() >= 0.9995


COMBINED = {
    Pooling.MEAN: lambda one: one.mean(0),
    Pooling.CLS: lambda one: one[0],
    Pooling.MAX: lambda one: one.amax(0),
    Pooling.LAST: lambda one: one[-1],
    Pooling.MEAN_SQRT: lambda one: one.sum(0) / len(one) ** 0.5,
    Pooling.WEIGHTED_MEAN: lambda one: sum(n * state for n, state in enumerate(one, 1)) / sum(range(len(one) + 1)),
}


@pytest.mark.parametrize("pooling", list(Pooling))
@pytest.mark.parametrize("kind", ["BertModel", "RobertaModel", "DistilBertModel"])
def test_a_model_and_its_pooling_equal_transformers(tmp_path, kind, pooling):
    model = build(tmp_path, kind)
    assert is_plain_bert(model.config) is (kind == "BertModel")
    items = [*SOME, item(7, 8, 9, 10, second=2)] if kind == "BertModel" else SOME
    expected = torch.stack([COMBINED[pooling](states) for states in states_of(model, items)]).numpy()
    encoder = load_engine(settings_of(), model).engine._encoder
    found = VectorEngine(encoder, pooling, normalise=False, placement=placement()).compute(items)
    assert np.abs(found.rows - expected).max() < 2e-5
    assert np.allclose(found.norms, np.linalg.norm(expected, axis=1), rtol=1e-4)


@pytest.mark.parametrize("pooling", list(Pooling))
@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("LlamaForCausalLM", {}),
        ("LlamaForCausalLM", {"pad_token_id": END}),  # the padding's token ends every text, too
        ("Qwen3ForCausalLM", {"pad_token_id": 0, "tie_word_embeddings": True}),
        ("GPT2LMHeadModel", {}),
        ("BertForSequenceClassification", {}),
    ],
)
def test_a_model_that_was_saved_with_its_pooling_gives_vectors(tmp_path, kind, changed, pooling):
    """Whatever its architecture's name says: Qwen3-Embedding and e5-mistral are called ForCausalLM."""
    build(tmp_path, kind, **changed)
    with_modules(tmp_path, {f"pooling_mode_{pooling}": True})
    loaded = load_engine(settings_of(), model := find_model(str(tmp_path)))
    assert (loaded.head, loaded.engine.head, model.pooling) == (Head.VECTORS, Head.VECTORS, pooling)
    items = [item(*SOME[0].ids, END), *SOME, item(*range(3, 40), END)]
    expected = torch.stack([COMBINED[pooling](states) for states in states_of(model, items)]).numpy()
    for company in (items, items[::-1], [items[-1], items[1]], *([one] for one in items)):
        rows = loaded.engine.compute(company).rows
        right = expected[[items.index(one) for one in company]]
        assert cosines(rows, right).min() >= 0.9999
        assert np.abs(rows - right).max() < 2e-5


def test_an_embedding_decoder_keeps_nothing_for_tokens_to_come(tmp_path):
    build(tmp_path, "LlamaForCausalLM")
    with_modules(tmp_path, {"pooling_mode": "lasttoken"})
    encoder = load_engine(settings_of(), find_model(str(tmp_path))).engine._encoder
    outputs = []
    encoder._model.register_forward_hook(lambda _, __, output: outputs.append(output))
    encoder.encode(SOME)
    assert [one.get("past_key_values") for one in outputs] == [None]
    assert all(not name.startswith("lm_head") for name, _ in encoder._model.named_parameters())


@pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.CLS])
def test_many_lengths_in_any_order_are_padded_and_give_the_same(tmp_path, pooling):
    model = build(tmp_path, "BertModel")
    encoder = BertEncoder(model.config, weights_of(model), placement())
    engine = VectorEngine(encoder, pooling, normalise=True, placement=placement())
    items = [item(*range(3, 4 + (7 * number) % 31)) for number in range(2 * GROUPS_MAX)]
    alone = np.concatenate([engine.compute([one]).rows for one in items])
    assert np.abs(engine.compute(items).rows - alone).max() < 1e-5
    in_order = sorted(range(len(items)), key=lambda number: len(items[number].ids))[:GROUPS_MAX]
    assert np.abs(engine.compute([items[number] for number in in_order]).rows - alone[in_order]).max() < 1e-5


def test_pooling_is_what_the_model_says():
    states, lengths = torch.tensor([[1.0, 8.0], [3.0, -2.0], [5.0, 5.0]]), torch.tensor([2, 1], dtype=torch.int32)
    assert pool(states, lengths, Pooling.MEAN).tolist() == [[2, 3], [5, 5]]
    assert pool(states, lengths, Pooling.CLS).tolist() == [[1, 8], [5, 5]]
    assert pool(states - 10, lengths, Pooling.MAX).tolist() == [[-7, -2], [-5, -5]]


@pytest.mark.parametrize("kind", ["BertModel", "RobertaModel"])
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (item(), "no tokens"),
        (item(4, VOCABULARY), "vocabulary"),
        (item(4, -1), "vocabulary"),
        (Item([5] * (POSITIONS + 1), b""), "the model takes"),
    ],
)
def test_what_the_model_has_no_numbers_for_never_reaches_the_device(tmp_path, kind, bad, why):
    engine = load_engine(settings_of(), build(tmp_path, kind)).engine
    with pytest.raises(EngineError, match=why):
        engine.compute([SOME[0], bad])
    assert len(engine.compute(SOME).rows) == len(SOME)


def test_positions_that_begin_after_the_padding_are_counted(tmp_path):
    engine = load_engine(settings_of(), build(tmp_path, "RobertaModel", pad_token_id=1)).engine
    assert len(engine.compute([Item([5] * (POSITIONS - 2), b"")]).rows) == 1
    with pytest.raises(EngineError, match="the model takes 62"):
        engine.compute([Item([5] * (POSITIONS - 1), b"")])


@pytest.mark.parametrize("kind", ["BertModel", "DistilBertModel"])
def test_weights_that_are_none_give_no_vectors(tmp_path, kind):
    with pytest.raises(NonFiniteOutput):
        load_engine(settings_of(), build(tmp_path, kind, poison=True))


@pytest.mark.parametrize("kind", ["BertModel", "DistilBertModel"])
def test_a_pass_is_one_copy_to_the_device(tmp_path, kind):
    model, counted = build(tmp_path, kind), CountedCopies()
    weights = counted.placement
    encoder = (
        BertEncoder(model.config, weights_of(model), weights) if kind == "BertModel" else PaddedEncoder(model, weights)
    )
    engine = VectorEngine(encoder, Pooling.MEAN, normalise=True, placement=weights)
    usual = load_engine(settings_of(), model).engine
    for passes, items in enumerate([SOME, SOME[:1], SOME * 40, SOME[:2]], start=1):
        rows = engine.compute(items).rows
        assert counted.copies == passes
        plain = usual.compute(items)
        assert np.abs(rows - plain.rows / plain.norms[:, None]).max() < 1e-5


def test_an_engine_gives_its_model_back(tmp_path):
    import weakref

    engine = load_engine(settings_of(), build(tmp_path, "BertModel")).engine
    assert engine.memory_bytes() > 0
    encoder = weakref.ref(engine._encoder)
    engine.close()
    assert encoder() is None

"""What every engine must satisfy: a result depends neither on what else is computed with it nor on the order."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_workers.engines.loading import load_engine
from inference_workers.ports import Head, Item, Sampling
from tests.built_models import POSITIONS, VOCABULARY, build, settings_of

KINDS = [
    "BertModel",
    "DistilBertModel",
    "BertForSequenceClassification",
    "RobertaForSequenceClassification",
    "GPT2LMHeadModel",
    "LlamaForCausalLM",
    "CLIPModel",
]
TOLERANCE = 3e-5
"""float32, two layers: what another order of summing changes."""
TOKENS = st.integers(3, VOCABULARY - 1)


@functools.cache
def loaded(kind):
    with tempfile.TemporaryDirectory(prefix="inferwatch-laws-") as folder:
        return load_engine(settings_of(), build(Path(folder), kind))


@st.composite
def items_for(draw, kind):
    head = loaded(kind).head
    if kind == "CLIPModel" and draw(st.booleans()):
        pixels = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(3, 32, 32))
        return Item((), b"", pixels=pixels.astype(np.float32), cost=17)
    ids = draw(st.lists(TOKENS, min_size=1, max_size=POSITIONS - 24))
    second = draw(st.none() | st.integers(1, len(ids))) if kind.startswith("Bert") else None
    sampling = None
    if head is Head.TOKENS:
        temperature = draw(st.sampled_from([0.0, 0.0, 0.7, 1.0, 3.0]))
        sampling = Sampling(draw(st.integers(1, 20)), temperature, draw(st.integers(0, 2**63 - 1)))
    return Item(tuple(ids), b"", second, None, sampling, len(ids))


def same(head, left, right):
    """Whether two results are one, but for rounding."""
    if head is not Head.TOKENS:
        return bool(np.abs(left - right).max() <= TOLERANCE * max(1.0, float(np.abs(left).max())))
    return (left.ids, left.finish_reason) == (right.ids, right.finish_reason) and (
        abs(left.probability - right.probability) < TOLERANCE
    )


@pytest.mark.parametrize("kind", KINDS)
def test_company_and_order_change_nothing(kind):
    engine, head = loaded(kind).engine, loaded(kind).head

    @settings(max_examples=15, deadline=None, derandomize=True)
    @given(items=st.lists(items_for(kind), min_size=1, max_size=7), data=st.data())
    def holds(items, data):
        alone = [engine.compute([one]).rows[0] for one in items]
        together = engine.compute(items)
        assert len(together.rows) == len(together.norms) == len(items)
        assert all(same(head, one, other) for one, other in zip(alone, together.rows, strict=True))
        order = data.draw(st.permutations(range(len(items))))
        shuffled = engine.compute([items[number] for number in order]).rows
        assert all(same(head, alone[number], row) for number, row in zip(order, shuffled, strict=True))

    holds()


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_changes_nothing_it_was_given(kind):
    ids, pixels = [5, 6, 7], np.ones((3, 32, 32), np.float32)
    item = Item(ids, b"", sampling=Sampling(3, 1.0, 1), cost=3)
    items = [item, Item((), b"", pixels=pixels)] if kind == "CLIPModel" else [item]
    engine = loaded(kind).engine
    first = engine.compute(items).rows
    assert ids == [5, 6, 7]
    assert (pixels == 1).all()
    kept = np.array(first) if isinstance(first, np.ndarray) else list(first)
    engine.compute([Item([9, 9], b"", sampling=Sampling(2), cost=2)])
    assert np.array_equal(kept, first) if isinstance(first, np.ndarray) else kept == first, "a later pass wrote over it"
    again = engine.compute(items).rows
    assert all(same(loaded(kind).head, one, other) for one, other in zip(first, again, strict=True))

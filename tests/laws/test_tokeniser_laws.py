"""A text's tokens are its own: whatever else is in the call, by whichever of the library's calls, however odd it is."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference_workers.models.tokenise import HELD_CHARACTERS_MAX, HELD_TEXTS_MAX, Tokeniser
from tests.parts import default_model

TOKENS_MAX = 12
CONTROL = "".join(map(chr, [*range(32), 127, 0x200B, 0x200D, 0x202E, 0xFEFF, 0xFFFD]))
MIXED = "red 鞋 обувь أحذية รองเท้า 👟👩‍👩‍👧‍👦 é é ﬁ"


@pytest.fixture(scope="module")
def tokeniser():
    return Tokeniser(default_model().path, tokens_max=TOKENS_MAX, text_bytes_max=4 * HELD_CHARACTERS_MAX)


text = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", " ", CONTROL, MIXED, "red shoes", "👟" * 30, "red " * 600, "x" * (HELD_CHARACTERS_MAX + 1)]),
)
inputs = st.one_of(text, st.tuples(text, text))


@given(texts=st.lists(inputs, min_size=1, max_size=6))
@example(texts=[("", "")])
@example(texts=[("red " * 20, "shoes " * 20), "red"])
def test_a_text_has_the_same_tokens_alone_and_in_any_company(tokeniser, texts):
    company = ["filler"] * (HELD_TEXTS_MAX + 1)
    together = tokeniser.tokenise([*texts, *company])[: len(texts)]
    assert [tokeniser.tokenise([one])[0] for one in texts] == together
    assert tokeniser.tokenise(texts) == together


@given(one=inputs)
def test_tokens_are_bounded_and_known_to_the_vocabulary(tokeniser, one):
    [found] = tokeniser.tokenise([one])
    assert 2 <= len(found.ids) <= TOKENS_MAX
    assert all(0 <= number < tokeniser.vocabulary for number in found.ids)
    assert 0 <= found.unknown <= len(found.ids) - 2

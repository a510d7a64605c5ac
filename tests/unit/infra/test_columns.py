import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.clickhouse.native_block import encoded
from infra.columns import Coded, Texts, hash_into, is_packed, joined, plain

TEXTS = st.lists(st.text(max_size=5), max_size=8)
CUTS = st.tuples(st.integers(0, 9), st.integers(0, 9))


@given(values=TEXTS, cut=CUTS)
@pytest.mark.parametrize("kind", [Coded, Texts])
def test_it_is_a_sequence_like_the_list(kind, values, cut):
    values = [value.encode("utf-8", "ignore").decode() for value in values]
    column = kind.of(values)
    assert len(column) == len(values)
    assert list(column) == plain(column) == values
    assert [column[i] for i in range(len(values))] == values
    assert list(column[cut[0] : cut[1]]) == values[cut[0] : cut[1]]
    assert list(column[cut[0] : cut[1]][1:]) == values[cut[0] : cut[1]][1:]
    if values:
        assert column[-1] == values[-1]
    with pytest.raises(IndexError):
        column[len(values)]


@given(parts=st.lists(TEXTS, min_size=1, max_size=4))
@pytest.mark.parametrize("kind", [Coded, Texts])
def test_joined_parts_are_the_joined_lists(kind, parts):
    column = joined([kind.of(part) for part in parts])
    assert isinstance(column, kind)
    assert list(column) == [value for part in parts for value in part]


def test_parts_of_different_kinds_become_a_list():
    assert joined([Coded.of(["a"]), ["b"], Texts.of(["c"])]) == ["a", "b", "c"]
    assert joined([np.array([1, 2]), [3]]) == [1, 2, 3]
    assert joined([np.array([1]), np.array([0.5])]) == [1, 0.5]


def test_rows_with_a_text_are_found_and_chosen():
    column = Texts.of(["", "é", "", "ab"])
    assert column.not_empty() == [(1, "é"), (3, "ab")]
    assert list(column.chosen(np.array([3, 0, 1]))) == ["ab", "", "é"]


def hashed(column):
    digest = hashlib.sha256()
    assert hash_into(digest, column)
    return digest.hexdigest()


def test_other_content_has_another_hash():
    columns = [
        *(np.array([1, 2]), np.array([1, 3]), np.array([1.0, 2.0]), np.array([True, False])),
        *(Coded.of(["a", "b"]), Coded.of(["b", "a"]), Coded.of(["ab", "b"])),
        *(Texts.of(["a", "bc"]), Texts.of(["ab", "c"]), Texts.of(["abc"])),
    ]
    assert len({hashed(column) for column in columns}) == len(columns)
    assert hashed(Texts.of(["x", "a", "bc"])[1:]) == hashed(Texts.of(["a", "bc"]))
    assert not hash_into(hashlib.sha256(), ["a"])
    assert not is_packed(["a"])


def test_what_is_not_written_as_a_block_is_left_to_the_client():
    numbers, names = np.array([1, 2]), Coded.of(["a", "b"])
    assert encoded({"n": numbers}, {"n": "UInt32"}) is not None
    assert encoded({"n": numbers}, {"n": "Array(UInt32)"}) is None
    assert encoded({"n": numbers}, {}) is None
    assert encoded({"n": numbers}, {"n": "Float64"}) is None
    assert encoded({"n": numbers.astype(float)}, {"n": "UInt32"}) is None
    assert encoded({"n": names}, {"n": "UInt32"}) is None
    assert encoded({"n": numbers, "list": [1, 2]}, {"n": "UInt32", "list": "UInt32"}) is None

"""The compiled loops of windows do to the bit what numpy does."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infra.columns import Texts
from schemas.windows import HISTOGRAMS, SPECIAL_TOKENS_BYTES
from stream_jobs import compiled_window as loops
from stream_jobs.compiled_requests import hashes_of
from stream_jobs.features import SCALES, features_of
from stream_jobs.sketch import BUCKETS, ENDS
from stream_jobs.telemetry_rows import _numbered
from stream_jobs.windows import _counted
from tests.sketches import buckets_of

VALUES = st.one_of(st.floats(0, 1e12), st.sampled_from([0.0, 1e-3, ENDS[1], ENDS[700], np.nextafter(ENDS[700], 1e12)]))


@st.composite
def rows(draw):
    """Slots, values and a mask of one length."""
    count = draw(st.integers(0, 40))
    slots = draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    values = draw(st.lists(VALUES, min_size=count, max_size=count))
    mask = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return np.array(slots, dtype=np.int64), np.array(values, dtype=np.float64), np.array(mask, dtype=np.bool_)


@given(given_rows=rows())
def test_sums_and_maxima_add_in_the_order_of_the_rows(given_rows):
    slots, values, _ = given_rows
    for loop, ufunc, column in (
        (loops.add_at, np.add, values),
        (loops.raise_at, np.maximum, values),
        (loops.add_at, np.add, values.astype(np.int64)),
        (loops.raise_at, np.maximum, values.astype(np.int64)),
    ):
        found, expected = np.ones(6, dtype=column.dtype), np.ones(6, dtype=column.dtype)
        loop(slots, column, found)
        ufunc.at(expected, slots, column)
        assert found.tobytes() == expected.tobytes()


@given(given_rows=rows())
def test_sketches_take_what_the_mask_has(given_rows):
    slots, values, mask = given_rows
    sums, least, most, codes = np.zeros(6), np.full(6, np.inf), np.zeros(6), np.zeros(len(values), dtype=np.int64)
    count = loops.sketch_rows(slots, values, mask, ENDS, sums, least, most, codes)
    expected, low, high = np.zeros(6), np.full(6, np.inf), np.zeros(6)
    np.add.at(expected, slots[mask], values[mask])
    np.minimum.at(low, slots[mask], values[mask])
    np.maximum.at(high, slots[mask], values[mask])
    assert (sums.tobytes(), least.tobytes(), most.tobytes()) == (expected.tobytes(), low.tobytes(), high.tobytes())
    assert codes[:count].tolist() == (slots[mask] * BUCKETS + buckets_of(values[mask])).tolist()


@given(given_rows=rows())
def test_outcomes_and_bins_are_counted(given_rows):
    slots, values, mask = given_rows
    outcome = (values % 4).astype(np.int64)
    counts = [np.zeros(6, dtype=np.int64) for _ in range(4)]
    loops.count_outcomes(slots, outcome, *counts)
    assert [one.tolist() for one in counts] == [
        np.bincount(slots[outcome == code], minlength=6).tolist() for code in range(4)
    ]
    edges = np.array([0.5, 1.0, 700.0])
    bins = loops.bins_of(values, mask, edges)
    assert bins.tolist() == np.where(mask, np.searchsorted(edges, values, side="right"), -1).tolist()
    found = np.zeros((6, 4), dtype=np.int64)
    loops.count_bins(slots, bins, found)
    assert found.sum() == mask.sum()
    assert all(
        found[slot, place] == ((slots == slot) & (bins == place)).sum() for slot in range(6) for place in range(4)
    )


COUNTS = st.one_of(st.integers(0, 60), st.integers(0, 2**32 - 1))


@given(told=st.lists(st.tuples(COUNTS, COUNTS, st.integers(0, 3), st.booleans()), max_size=40), data=st.data())
def test_tokens_a_byte_are_binned_request_by_request(told, data):
    tokens, size, inputs = (np.array([one[n] for one in told], dtype=np.int64) for n in range(3))
    truncated = np.array([one[3] for one in told], dtype=np.bool_)
    edges = np.array(HISTOGRAMS["fertility_bins"])
    found = loops.fertility_bins_of(tokens, size, inputs, truncated, SPECIAL_TOKENS_BYTES, edges)
    whole = (inputs == 1) & ~truncated & (tokens > 0) & (size > 0)
    expected = np.searchsorted(edges, tokens / (size + SPECIAL_TOKENS_BYTES), side="right")
    assert found.tolist() == np.where(whole, expected, -1).tolist()
    if told:  # and whatever the others are
        row = data.draw(st.integers(0, len(told) - 1))
        alone = (column[row : row + 1] for column in (tokens, size, inputs, truncated))
        assert loops.fertility_bins_of(*alone, SPECIAL_TOKENS_BYTES, edges).tolist() == [found[row]]


@given(codes=st.lists(st.one_of(st.integers(0, 5), st.integers(0, 10**6)), max_size=60))
def test_codes_are_numbered_and_counted_as_if_sorted(codes):
    codes = np.array(codes, dtype=np.int64)
    distinct, series = _numbered(codes)
    expected, inverse = np.unique(codes, return_inverse=True)
    assert (distinct, series.tolist()) == (expected.tolist(), inverse.tolist())
    expected, counts = np.unique(codes, return_counts=True)
    found = _counted(codes)
    assert [one.tolist() for one in found] == [expected.tolist(), counts.tolist()]
    assert all(one.dtype == np.int64 for one in found)


@given(values=st.lists(st.floats(), min_size=1, max_size=20))
def test_features_are_squashed_as_they_were_written_down(values):
    raw = np.array(values)
    found = features_of(dict.fromkeys(SCALES, raw))
    clipped = np.clip(np.nan_to_num(raw.copy(), nan=0.0, posinf=1e12, neginf=0.0), 0.0, 1e12)
    for number, scale in enumerate(SCALES.values()):
        assert found[:, number].tolist() == (clipped / (clipped + scale)).tolist()


@given(texts=st.lists(st.text(max_size=3), max_size=30))
def test_equal_texts_have_equal_hashes_and_different_ones_different(texts):
    column = Texts.of(texts)
    hashes = hashes_of(column.data, column.ends).tolist()
    assert len(set(zip(texts, hashes, strict=True))) == len(set(texts)) == len(set(hashes))

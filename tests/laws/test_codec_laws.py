"""What any bytes, headers and messages must satisfy on their way through the envelope."""

import struct
from contextlib import suppress
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from schemas.base import VALUE_BYTES_MAX, DecodeError, decode, encode, headers_for
from schemas.dead_letters import HEADROOM_BYTES, DeadLetter, Reason
from schemas.requests import InferenceRequested
from schemas.telemetry import TELEMETRY_KINDS
from schemas.vectors import decode_vector, encode_vector

NAMES = st.sampled_from(
    ["ce_id", "ce_type", "ce_source", "ce_specversion", "ce_time", "content-type", "traceparent", "x"]
)
HEADERS = st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=40)), max_size=8)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(HEADERS, st.none() | st.binary(max_size=200))
def test_any_record_is_a_message_or_a_decode_error(headers, value):
    for kinds, plain in (((InferenceRequested,), InferenceRequested), (TELEMETRY_KINDS, None)):
        with suppress(DecodeError):
            assert isinstance(decode(headers, value, kinds, plain=plain).data, kinds)


@given(TEXT | st.lists(TEXT, min_size=1, max_size=5), st.none() | st.integers(1, 86_400_000))
def test_a_request_comes_back_as_it_went(value, timeout_ms):
    request = InferenceRequested(input=value, timeout_ms=timeout_ms)
    headers = headers_for(request, event_id="1", source="s", time=datetime(2026, 1, 2, tzinfo=UTC))
    assert decode(headers, encode(request), (InferenceRequested,)).data == request
    assert decode([], encode(request), (InferenceRequested,), plain=InferenceRequested).data == request


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=50))
def test_a_vector_comes_back_bit_for_bit(numbers):
    raw = struct.pack(f"<{len(numbers)}f", *numbers)
    assert decode_vector(encode_vector(raw)).tobytes() == raw


@given(
    st.none() | st.binary(max_size=300),
    st.none() | st.binary(max_size=50),
    st.lists(st.tuples(st.text(max_size=10), st.none() | st.binary(max_size=20)), max_size=5),
    st.text(max_size=3_000),
    st.sampled_from(["", "AAAAAAAAAAAAAAAAAAAAAA"]),
)
def test_a_dead_letter_keeps_the_record_and_says_what_it_cut(value, key, headers, detail, topic_id):
    letter = DeadLetter.of(
        topic="t",
        partition=1,
        offset=2,
        stage="worker",
        reason=Reason.NOT_JSON,
        detail=detail,
        key=key,
        value=value,
        headers=headers,
        value_bytes_max=200,
        topic_id=topic_id,
    )
    back = DeadLetter.from_record(letter.record_headers(), letter.key, letter.value)
    assert back == letter
    assert len(letter.value or b"") + letter.cut_bytes == len(value or b"")
    assert (letter.value is None) == (value is None)
    assert letter.cut_bytes == 0 or len(letter.value or b"") + len(key or b"") == max(200, len(key or b""))


SIZES = st.sampled_from([0, 1, 65_535, 65_536, 65_537, VALUE_BYTES_MAX]) | st.integers(0, 3 * VALUE_BYTES_MAX)
RECORD_OVERHEAD_BYTES, HEADER_OVERHEAD_BYTES = 100, 10
"""A batch's head and a record's own lengths; a header's two lengths. Upper bounds."""


@given(
    SIZES,
    SIZES,
    st.lists(st.tuples(st.sampled_from(["x", "\u00e9" * 500]), st.none() | SIZES.map(bytes)), max_size=4),
    st.sampled_from(["", "why", "\U0001f45f" * 3_000]),
)
def test_a_dead_letter_fits_its_topic_whatever_the_record_holds(value_bytes, key_bytes, headers, detail):
    letter = DeadLetter.of(
        topic="t" * 249,
        partition=2**31 - 1,
        offset=2**63 - 1,
        stage="s" * 100,
        reason=Reason.WRONG_CONTENT_TYPE,
        detail=detail,
        key=b"k" * key_bytes,
        value=b"v" * value_bytes,
        headers=headers,
        value_bytes_max=VALUE_BYTES_MAX,
        topic_id="T" * 22,
    )
    pairs = letter.record_headers()
    heads = sum(len(name.encode()) + len(raw or b"") + HEADER_OVERHEAD_BYTES for name, raw in pairs)
    assert len(letter.key) + len(letter.value) + heads + RECORD_OVERHEAD_BYTES <= VALUE_BYTES_MAX + HEADROOM_BYTES
    assert DeadLetter.from_record(pairs, letter.key, letter.value) == letter
    assert (len(letter.key) + letter.key_cut_bytes, len(letter.value) + letter.cut_bytes) == (key_bytes, value_bytes)
    if key_bytes + value_bytes <= VALUE_BYTES_MAX:
        assert letter.key_cut_bytes == letter.cut_bytes == 0, "what fits is not cut"

"""The fast way of reading telemetry and the careful one: whatever the fast one takes, both give the same."""

import json
from dataclasses import fields, replace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.columns import plain
from schemas.base import DecodeError
from schemas.telemetry import MAY_BE_EMPTY, Outcome, RequestColumns
from stream_jobs.request_arrays import RequestArrays
from stream_jobs.telemetry_decoding import COLUMNS, TelemetryDecoder, careful
from tests.telemetry_events import T0, record, served

DECODER = TelemetryDecoder()
PUT_IN = (
    *(b"", b",", b'"', b"[", b"]", b"}", b"0", b"-1", b"1e3", b".5", b" ", b"\\u0041", b"null", b"true", b"NaN"),
    *(b"\xc3\xa9", b"\xff", b'"requests":{', b"00", b"1.0", b'"x":[1],', b"18446744073709551616"),
)
SHARES = ("cached", "confidence", "entropy", "margin")


@st.composite
def events(draw):
    """Events as workers write them, and with what they would not: long texts, other alphabets, large numbers."""
    count = draw(st.integers(1, 6))
    message = served(range(draw(st.integers(0, 10**6)), 10**7, 3)[:count], outcome=lambda o: list(Outcome)[o % 4])
    told = message.requests.model_dump()
    texts = draw(st.sampled_from([st.text("abc-_/ ~", max_size=40), st.text(max_size=8)]))
    milliseconds = st.one_of(st.floats(0, 1e12), st.integers(0, 10**7).map(lambda n: n / 1000), st.sampled_from([0, 7]))
    told["request_id"] = draw(st.lists(texts, min_size=count, max_size=count))
    told["error"] = draw(st.lists(st.sampled_from(["", "", "ValueError"]), min_size=count, max_size=count))
    for name in ("queue_ms", "total_ms", "output_norm"):
        told[name] = draw(st.lists(milliseconds, min_size=count, max_size=count))
    told["tokens"] = draw(st.lists(st.sampled_from([0, 6, 2**32 - 1, 10**17]), min_size=count, max_size=count))
    shares = st.one_of(st.floats(0, 1), st.integers(0, 10_000).map(lambda n: n / 10_000))
    for name in draw(st.sets(st.sampled_from(SHARES))):
        told[name] = draw(st.lists(shares, min_size=count, max_size=count))
    if draw(st.booleans()):
        told["model"] = draw(st.lists(st.integers(-1, 1), min_size=count, max_size=count))
        told["fingerprint"] = draw(st.lists(st.sampled_from(["", "5f2b"]), min_size=count, max_size=count))
    return message.model_copy(update={"requests": RequestColumns(**told)})


def as_lists(requests):
    """By name, exact: floats as their bits."""
    columns = {one.name: getattr(requests, one.name) for one in fields(RequestArrays)}
    return {
        name: [value.hex() if isinstance(value, float) else value for value in plain(column)]
        if not isinstance(column, bool)
        else column
        for name, column in columns.items()
    }


def told_by(way, headers, value):
    """What a way makes of a record: an event's parts, or the words of a refusal."""
    try:
        found = way(headers, value)
    except DecodeError as error:
        return str(error)
    others = found.event.model_dump(exclude={"requests"})
    return others, as_lists(found.requests)


@given(message=events(), other_writer=st.booleans())
def test_both_ways_give_the_same_to_the_bit(message, other_writer):
    one = record(message, 0, T0)
    value = orjson.dumps(message.model_dump(mode="json", exclude_none=True)) if other_writer else one.value
    fast = DECODER.fast(one.headers, value)
    expected = told_by(careful, one.headers, value)
    if fast is not None:
        assert (fast.event.model_dump(exclude={"requests"}), as_lists(fast.requests)) == expected
    assert told_by(lambda h, v: DECODER.decoded(replace(one, headers=h, value=v)), one.headers, value) in (
        expected,
        _too_large(message),
    )


def _too_large(message):
    most = max(message.requests.tokens)
    return f"bad_value: requests.tokens: {most} is above {2**32 - 1}"


@given(
    message=events(),
    changes=st.lists(
        st.tuples(
            st.floats(0, 1),
            st.integers(0, 3),
            st.sampled_from(PUT_IN),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_what_is_broken_is_refused_in_the_same_words_or_means_the_same(message, changes):
    one = record(message, 0, T0)
    value = one.value
    for where, cut, put in changes:
        at = int(where * len(value))
        value = value[:at] + put + value[at + cut :]
    fast = DECODER.fast(one.headers, value)
    if fast is not None:
        assert (fast.event.model_dump(exclude={"requests"}), as_lists(fast.requests)) == told_by(
            careful, one.headers, value
        )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"offset":[5', b'"offset":[5.0'),
        (b'"offset":[5', b'"offset":[true'),
        (b'"offset":[5', b'"offset":["5"'),
        (b'"offset":[5,6', b'"offset":[6,5'),
        (b'"batch":[0', b'"batch":[1'),
        (b'"scenario":[1', b'"scenario":[2'),
        (b'"outcome":["answered"', b'"outcome":["answere"'),
        (b'"outcome":["answered"', b'"outcome":[0'),
        (b'"truncated":[true', b'"truncated":[1'),
        (b'"unknown_share":[0.1', b'"unknown_share":[1.1'),
        (b'"unknown_share":[0.1', b'"unknown_share":[-0.1'),
        (b'"inputs":[1', b'"inputs":[1,1'),
        (b'"inputs":', b'"offset":'),
        (b'"requests":{', b'"asked":{"requests":'),
        (b'"partition":0', b'"partition":0,"requests":{}'),
        (b'"tokens":[6,', b'"tokens":[6 ,'),
        (b'"input_bytes":[', b'"input_bytes":[012,'),
        (b'"error":[""', b'"error":["' + b"e" * 201 + b'"'),
    ],
)
def test_the_fast_way_leaves_it_to_the_careful_one(old, new):
    one = record(served(range(5, 8)), 0, T0)
    assert DECODER.fast(one.headers, one.value) is not None
    assert one.value.count(old) == 1
    assert DECODER.fast(one.headers, one.value.replace(old, new)) is None


def test_no_byte_behind_the_end_is_looked_at():
    """Cut anywhere, with bytes behind the cut that would go on well."""
    one = record(served(range(5, 8)), 0, T0)
    whole = np.frombuffer(one.value, dtype=np.uint8)
    for end in range(len(whole)):
        assert DECODER.fast(one.headers, whole[:end].tobytes()) is None


def test_an_event_as_the_worker_writes_it_is_read_the_fast_way():
    told = orjson.loads(record(served(range(50)), 0, T0).value)
    for name in MAY_BE_EMPTY & told["requests"].keys():
        del told["requests"][name]
    headers = record(served(range(50)), 0, T0).headers
    assert len(DECODER.fast(headers, orjson.dumps(told)).requests) == 50


def test_the_bounds_are_those_of_the_schema():
    schema = RequestColumns.model_json_schema()
    for name, (least, most) in COLUMNS.items():
        items = schema["properties"][name]["items"]
        if "minimum" in items:
            assert least == items["minimum"], name
            assert most <= items["maximum"], name
        elif "maxLength" in items:
            assert (least, most) == (0, items["maxLength"]), name
        else:
            assert name in ("outcome", "truncated"), json.dumps(items)

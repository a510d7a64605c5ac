"""An answer is a span of its own in its request's trace."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.traces import child_of, trace_id_of
from schemas.base import traceparent_of

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_trace_stays_and_the_span_is_new():
    child = child_of(PARENT, random.Random(1).getrandbits)
    assert child == "00-0af7651916cd43dd8448eb211c80319c-91b7584a2265b1f5-01"
    assert trace_id_of(child) == trace_id_of(PARENT) == "0af7651916cd43dd8448eb211c80319c"
    assert child != child_of(PARENT, random.Random(2).getrandbits)


def test_who_began_the_trace_decided_whether_it_is_sampled():
    assert child_of(PARENT[:-2] + "00", random.Random(1).getrandbits).endswith("-00")


def test_without_a_trace_none_is_begun():
    assert child_of(None, random.Random(1).getrandbits) is None
    assert trace_id_of(None) == ""


@pytest.mark.parametrize("bits", [0, 2**64 - 1])
def test_a_span_is_never_zeros(bits):
    child = child_of(PARENT, lambda count: bits)
    assert traceparent_of({"traceparent": child}) == child


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255), st.integers(0, 2**64 - 1))
def test_a_child_of_a_valid_context_is_valid(trace, span, flags, bits):
    child = child_of(f"00-{trace:032x}-{span:016x}-{flags:02x}", lambda count: bits)
    assert traceparent_of({"traceparent": child}) == child

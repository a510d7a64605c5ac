"""Entries come back to the bit from their pages, and a page that is cut or altered is refused."""

import json
import math
import struct
import zlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_jobs.entry_pages import Entry, pack_entries, packed_entry, unpack_entries, unpacked_entry
from stream_jobs.packing import packed
from stream_jobs.pages import pack
from stream_jobs.stage import PAGE_BYTES_MAX

COLUMNS = {"counts": 1, "rate": 8, "latency": 8}
WILD = [math.nan, -math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324, 1.7976931348623157e308, 0.1]
WHOLE = st.integers(-(2**63), 2**64 - 1) | st.sampled_from([2**31, -(2**31) - 1, 2**53 + 1, 2**63, 2**64 - 1])
PLAIN = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
FLOATS = st.lists(st.floats() | st.sampled_from(WILD), max_size=9).map(
    lambda some: struct.pack(f"<{len(some)}d", *some)
)
NUMBERS = st.dictionaries(st.sampled_from(sorted(COLUMNS)), st.binary(max_size=40) | FLOATS, max_size=3)
ENTRIES = st.lists(st.builds(Entry, PLAIN, NUMBERS), max_size=8)


def exact(entries):
    """Comparable with the types and signs that == does not see."""
    return [(json.dumps(entry.plain), dict(entry.numbers)) for entry in entries]


@given(entries=ENTRIES)
def test_entries_come_back_to_the_bit_together_and_alone(entries):
    pages = pack_entries(entries, COLUMNS)
    assert len(pages) == min(1, len(entries))
    assert exact(unpack_entries(pages)) == exact(entries)
    assert exact(unpacked_entry(packed_entry(entry, COLUMNS)) for entry in entries) == exact(entries)


@given(first=ENTRIES, second=ENTRIES)
def test_pages_of_a_group_are_its_entries_one_after_the_other(first, second):
    pages = pack_entries(first, COLUMNS) + pack_entries(second, COLUMNS)
    assert exact(unpack_entries(pages)) == exact(first + second)


@given(entries=st.lists(PLAIN, max_size=5))
def test_pages_of_json_alone_are_read_as_entries_without_numbers(entries):
    pages = pack(entries)
    assert exact(unpack_entries(pages)) == exact(map(Entry, entries))
    unpacked = orjson.dumps({"format": 1, "entries": entries})  # of before pages were packed
    assert exact(unpack_entries([unpacked])) == exact(map(Entry, entries))


@given(entries=ENTRIES.filter(bool), data=st.data())
def test_a_page_that_is_cut_or_altered_is_refused(entries, data):
    (page,) = pack_entries(entries, COLUMNS)
    at = data.draw(st.integers(0, len(page) - 1))
    altered = bytearray(page)
    altered[at] ^= data.draw(st.integers(1, 255))
    for broken in (page[:at], bytes(altered), page + b"\0", page + page):
        with pytest.raises(ValueError):
            unpack_entries([broken])
        with pytest.raises(ValueError):
            unpacked_entry(broken)


def framed(text, numbers=b""):
    body = packed(text + b"\n") + packed(numbers)
    return struct.pack("<4sI", b"IWP2", zlib.crc32(body)) + body


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (b'{"format":3,"columns":[],"entries":[1]}', b""),
        (b"[2]", b""),
        (b'{"format":2,"entries":[1]}', b""),
        (b'{"format":2,"columns":[],"entries":[1]}', b"12345678"),
        (b'{"format":2,"columns":[["a",1,[9]]],"entries":[1]}', b"12345678"),
        (b'{"format":2,"columns":[["a",1,[7]]],"entries":[1]}', b"12345678"),
        (b'{"format":2,"columns":[["a",8,[8]]],"entries":[1,2]}', b"12345678"),
        (b'{"format":2,"columns":[["a",8,[8,8]]],"entries":[1]}', b"12345678" * 2),
        (b'{"format":2,"columns":[["a",1,["8"]]],"entries":[1]}', b"12345678"),
        (b'{"format":2,"columns":[["a",1]],"entries":[1]}', b"12345678"),
        (b'{"format":2,"columns":[["a",3,[9,9]]],"entries":[1,2]}', b"123456789" * 2),
        (b'{"format":2,"columns":[["a",0,[8]]],"entries":[1]}', b"12345678"),
    ],
)
def test_a_page_whose_parts_do_not_fit_together_is_refused(text, numbers):
    with pytest.raises(ValueError):
        unpack_entries([framed(text, numbers)])


def test_the_same_page_with_parts_that_fit_is_read():
    page = framed(
        b'{"format":2,"columns":[["a",8,[8,3]],["b",1,[-1,2]]],"entries":[1,2]}', b"12345678abc\0\0\0\0\0\0x\0y"
    )
    assert unpack_entries([page]) == [Entry(1, {"a": b"12345678"}), Entry(2, {"a": b"abc", "b": b"xy"})]


def test_entries_larger_than_a_page_are_divided_and_one_that_is_alone_refused():
    entries = [Entry(number, {"rate": bytes([number]) * 50_000}) for number in range(12)]
    pages = pack_entries(entries, COLUMNS)
    assert 3 <= len(pages) <= 4
    assert max(map(len, pages)) <= PAGE_BYTES_MAX
    assert unpack_entries(pages) == entries
    large = Entry(None, {"rate": b"x" * PAGE_BYTES_MAX})
    with pytest.raises(ValueError, match="does not fit a page"):
        pack_entries([*entries, large], COLUMNS)
    assert unpacked_entry(packed_entry(large, COLUMNS)) == large


def test_numbers_of_no_column_are_not_lost_silently():
    with pytest.raises(ValueError, match="in none of the columns"):
        pack_entries([Entry(1, {"rate": b"", "other": b"1"})], COLUMNS)

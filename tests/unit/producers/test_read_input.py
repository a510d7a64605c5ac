"""Reading requests from files: every kind of bad line is refused with its number, and the rest goes on."""

import io
import json

import pytest

from producers.read_input import (
    CSV_RECORD_LINES_MAX,
    LINE_BYTES_MAX,
    Format,
    Layout,
    Refused,
    Request,
    WrongFile,
    read_requests,
)
from schemas.base import Reason


def read(content: bytes, format_: Format, **options):
    return list(read_requests(io.BytesIO(content), Layout(format_, **options)))


def texts(rows):
    return [row.request.inputs[0] for row in rows if isinstance(row, Request)]


def refusals(rows):
    return [(row.line, row.reason) for row in rows if isinstance(row, Refused)]


BAD_JSON_LINES = [
    (b'{"input": "a"', Reason.NOT_JSON),
    (b"red shoes", Reason.NOT_JSON),
    (b'{"input": "\xff"}', Reason.NOT_UTF8),
    (b"[1]", Reason.NOT_AN_OBJECT),
    (b'"red shoes"', Reason.NOT_AN_OBJECT),
    (b"{}", Reason.MISSING_FIELD),
    (b'{"input": 17}', Reason.WRONG_TYPE),
    (b'{"input": null}', Reason.WRONG_TYPE),
    (b'{"input": "a", "timeout_ms": NaN}', Reason.WRONG_TYPE),
    (b'{"input": "a", "timeout_ms": -1}', Reason.BAD_VALUE),
    (b'{"input": []}', Reason.BAD_VALUE),
    (b'{"input": "a", "scenario": "A B"}', Reason.BAD_VALUE),
    (b'{"input": "\\ud800"}', Reason.NOT_JSON),
    (b'{"input": "' + b"a" * LINE_BYTES_MAX + b'"}', Reason.TOO_LARGE),
    (b'{"input":' + b"[" * 100_000, Reason.NOT_JSON),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_JSON_LINES, ids=[str(n) for n in range(len(BAD_JSON_LINES))])
@pytest.mark.parametrize("options", [{}, {"scenario": "other"}])
def test_a_bad_json_line_is_refused_and_the_rest_goes_on(bad, reason, options):
    rows = read(b'{"input": "one"}\n' + bad + b'\n\n{"input": "two"}', Format.JSONL, **options)
    assert texts(rows) == ["one", "two"]
    ((line, found),) = refusals(rows)
    assert line == 2
    # Read in two ways, a lone surrogate is broken JSON to one parser and a bad value to the other.
    assert found == reason or (b"ud800" in bad and found is Reason.BAD_VALUE)


def test_json_lines_keep_their_own_fields():
    line = json.dumps({"q": "red", "u": 17, "scenario": "recommendation", "timeout_ms": 5}).encode()
    (row,) = read(line, Format.JSONL, column="q", key_column="u", scenario="search")
    assert (row.request.inputs, row.key, row.request.scenario, row.request.timeout_ms) == (
        ["red"],
        "17",
        "recommendation",
        5,
    )
    (missing,) = read(b'{"q": "red"}', Format.JSONL, column="q", key_column="u")
    assert missing.reason is Reason.MISSING_FIELD


def test_text_lines_with_mark_and_windows_ends():
    rows = read("\ufeffröd sko\r\n\r\n  two  \n\xff".encode("utf-8")[:-2] + b"\xff\nlast", Format.TEXT)
    assert texts(rows) == ["röd sko", "  two  ", "last"]
    assert refusals(rows) == [(4, Reason.NOT_UTF8)]


def test_a_line_without_end_is_cut_and_the_next_is_read():
    rows = read(b"x" * (3 * LINE_BYTES_MAX) + b"\nred", Format.TEXT)
    assert refusals(rows) == [(1, Reason.TOO_LARGE)]
    assert texts(rows) == ["red"]


@pytest.mark.parametrize("size", [LINE_BYTES_MAX - 1, LINE_BYTES_MAX, LINE_BYTES_MAX + 1, LINE_BYTES_MAX + 2])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_near_the_limit_do_not_shift_the_numbers(size, end):
    rows = read(b"x" * size + end + b"\xff\nred", Format.TEXT)
    assert (2, Reason.NOT_UTF8) in refusals(rows)
    assert texts(rows)[-1] == "red"


def test_a_short_line_may_still_be_too_large_a_request():
    rows = read(b"\x01" * 300_000 + b"\nred", Format.TEXT)  # six bytes each as JSON
    assert refusals(rows) == [(1, Reason.TOO_LARGE)]


def test_csv_with_quotes_that_span_lines():
    content = b'user,query\r\n7,"red, or\nblue ""shoes"""\r\n8,\xc3\xa9t\xc3\xa9\r\n'
    rows = read(content, Format.CSV, column="query", key_column="user")
    assert [(row.line, row.key, row.request.inputs[0]) for row in rows] == [
        (2, "7", 'red, or\nblue "shoes"'),
        (4, "8", "été"),
    ]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"only-one", Reason.BAD_VALUE),
        (b"a,b,c", Reason.BAD_VALUE),
        (b"a,\xff", Reason.NOT_UTF8),
        (b'a,"b"c', Reason.BAD_VALUE),
        (b'a,"never closed', Reason.BAD_VALUE),
        (b"a," + b"x" * LINE_BYTES_MAX, Reason.TOO_LARGE),
    ],
)
def test_a_bad_csv_line_is_refused_alone(bad, reason):
    rows = read(b"user,input\n1,one\n" + bad + b"\n3,two\n4,three\n", Format.CSV)
    assert refusals(rows) == [(3, reason)]
    assert texts(rows) == ["one", "two", "three"]


def test_an_open_quote_does_not_swallow_a_long_file():
    many = 3 * CSV_RECORD_LINES_MAX
    rows = read(b'input\n"open\n' + b"red\n" * many, Format.CSV)
    assert refusals(rows) == [(2, Reason.BAD_VALUE)]
    assert len(texts(rows)) == many
    assert [row.line for row in rows if isinstance(row, Request)] == list(range(3, many + 3))


@pytest.mark.parametrize("header", [b"query,user\n", b"input,input\n", b"\n", b'"open\n', b"\xff\n"])
def test_a_csv_without_its_column_is_a_wrong_file(header):
    with pytest.raises(WrongFile):
        read(header + b"a,b\n", Format.CSV)


def test_utf16_is_a_wrong_file():
    with pytest.raises(WrongFile, match="UTF-8"):
        read("red".encode("utf-16"), Format.TEXT)


@pytest.mark.parametrize("format_", list(Format))
def test_an_empty_file_has_no_requests(format_):
    assert read(b"", format_) == []


def test_memory_is_bounded_by_a_line():
    class Endless(io.RawIOBase):
        """Counts what is asked of it at once."""

        def __init__(self):
            self.left, self.largest = 40, 0

        def readline(self, size=-1):
            self.largest = max(self.largest, size)
            self.left -= 1
            return b"x" * size if self.left > 0 else b""

    stream = Endless()
    (row,) = read_requests(stream, Layout(Format.TEXT))
    assert row.reason is Reason.TOO_LARGE
    assert 0 < stream.largest <= LINE_BYTES_MAX + 2

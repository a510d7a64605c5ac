import io
import json

import pytest

from infra.embedded.clickhouse_codings import decode
from infra.embedded.clickhouse_engine import EngineError, QueryStats
from infra.embedded.clickhouse_reply import HELD_BYTES, Reply, content_type, head, http_status, summary

BROKEN = EngineError(395, "Code: 395. DB::Exception: late")


def reply_into(sent, *, coding=None, wait_end=False):
    return Reply(sent.append, io.BytesIO, {"X-ClickHouse-Format": "CSV"}, coding=coding, wait_end=wait_end)


def split(sent):
    started, _, body = b"".join(sent).partition(b"\r\n\r\n")
    return started.decode().split("\r\n"), body


def test_a_short_answer_is_one_send_with_its_length():
    sent = []
    reply = reply_into(sent)
    reply.feed(b"1\n")
    reply.feed(memoryview(b"2\n"))
    reply.finish(QueryStats(read_rows=2))
    assert len(sent) == 1
    lines, body = split(sent)
    assert lines[0] == "HTTP/1.1 200 OK"
    assert "Content-Length: 4" in lines
    assert body == b"1\n2\n"


def test_a_long_answer_goes_out_in_chunks_or_whole_as_asked():
    pieces = [bytes([index]) * HELD_BYTES for index in range(3)]
    sent = []
    reply = reply_into(sent)
    for piece in pieces:
        reply.feed(piece)
    assert sent, "the first bytes leave before the end"
    reply.finish(QueryStats())
    assert "Transfer-Encoding: chunked" in split(sent)[0]
    assert sent[-1] == b"0\r\n\r\n"
    whole = []
    reply = reply_into(whole, wait_end=True)
    for piece in pieces:
        reply.feed(piece)
    assert whole == []
    reply.finish(QueryStats())
    reply.close()
    assert split(whole)[1] == b"".join(pieces)


@pytest.mark.parametrize("coding", ["lz4", "zstd", "gzip", "deflate"])
def test_a_coded_answer(coding):
    sent = []
    reply = reply_into(sent, coding=coding)
    reply.feed(b"x" * 1000)
    reply.finish(QueryStats())
    lines, body = split(sent)
    assert f"Content-Encoding: {coding}" in lines
    assert b"".join(decode([body], coding)) == b"x" * 1000


def test_an_empty_answer_is_not_coded():
    sent = []
    reply_into(sent, coding="gzip").finish(QueryStats())
    lines, body = split(sent)
    assert "Content-Length: 0" in lines
    assert body == b""
    assert not any(line.startswith("Content-Encoding") for line in lines)


def test_an_early_error_has_a_status_and_none_of_the_rows():
    sent = []
    reply = reply_into(sent)
    reply.feed(b"rows")
    reply.fail(BROKEN)
    lines, body = split(sent)
    assert lines[0] == "HTTP/1.1 500 Internal Server Error"
    assert "X-ClickHouse-Exception-Code: 395" in lines
    assert body == b"Code: 395. DB::Exception: late\n"
    assert not reply.broken


def test_a_late_error_is_marked_and_the_answer_breaks_off():
    sent = []
    reply = reply_into(sent)
    reply.feed(bytes(HELD_BYTES + 1))
    reply.fail(BROKEN)
    tag = next(line for line in split(sent)[0] if line.startswith("X-ClickHouse-Exception-Tag")).split(": ")[1]
    assert f"__exception__\r\n{tag}\r\n{BROKEN}\n".encode() in sent[-1]
    assert reply.broken
    assert sent[-1] != b"0\r\n\r\n"


def test_words_of_the_interface():
    assert [http_status(code) for code in (62, 60, 115, 159, 202, 229, 241)] == [400, 404, 404, 408, 503, 413, 500]
    assert content_type("JSONEachRow") == "application/x-ndjson; charset=UTF-8"
    assert content_type("JSONCompact").startswith("application/json")
    assert json.loads(summary(QueryStats(written_rows=3)))["written_rows"] == "3"
    assert b"X: a b" in head(200, {"X": "a\nb"}), "a header cannot be cut in two"

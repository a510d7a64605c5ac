import gzip
import io
import zlib

import pytest

from infra.embedded.clickhouse_body import BodyBroken, BodyTooLarge, Spool, chunked_pieces, pieces_from, sized_pieces
from infra.embedded.clickhouse_codings import PIECE_BYTES, CodingError, choose_coding, compressor, decode


def test_chunks_are_joined_and_trailers_dropped():
    wire = io.BytesIO(b"3\r\nabc\r\n4;note=1\r\ndefg\r\n0\r\nTrailer: x\r\n\r\nnext")
    assert b"".join(chunked_pieces(wire)) == b"abcdefg"
    assert wire.read() == b"next"


@pytest.mark.parametrize("wire", [b"", b"3\r\nab", b"x\r\n", b"3\r\nabcd\r\n", b"-1\r\n", b"0\r\nTrailer: x\r\n"])
def test_broken_chunks_are_told(wire):
    with pytest.raises(BodyBroken):
        list(chunked_pieces(io.BytesIO(wire)))


def test_a_short_body_is_told():
    with pytest.raises(BodyBroken):
        list(sized_pieces(io.BytesIO(b"abc"), 4))


@pytest.mark.parametrize("coding", ["lz4", "zstd", "gzip", "deflate"])
def test_a_coded_body_comes_back_in_bounded_pieces(coding):
    plain = bytes(3 * PIECE_BYTES) + b"end"
    coder = compressor(coding)
    coded = coder.compress(plain[:100]) + coder.compress(plain[100:]) + coder.flush()
    wire = [coded[:7], coded[7:9], coded[9:]]
    pieces = list(decode(wire, coding))
    assert b"".join(pieces) == plain
    assert max(map(len, pieces)) <= PIECE_BYTES
    with pytest.raises(CodingError, match="middle"):
        list(decode([coded[:-1]], coding))
    with pytest.raises(CodingError, match=f"not {coding}"):
        list(decode([b"plain text, no frame"], coding))


def test_frames_one_after_another_are_one_body():
    assert b"".join(decode([gzip.compress(b"a") + gzip.compress(b"b")], "gzip")) == b"ab"


def test_an_unknown_coding_names_those_that_are_known():
    with pytest.raises(CodingError, match="gzip"):
        list(decode([b"x"], "br"))


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [("", None), ("br", None), ("br, gzip", "gzip"), ("lz4,zstd", "lz4"), ("gzip;q=0, deflate", "deflate")],
)
def test_the_first_known_coding_is_chosen(accepted, chosen):
    assert choose_coding(accepted) == chosen


def test_the_limit_counts_plain_bytes(tmp_path):
    spool = Spool(tmp_path / "spool", body_bytes_max=1000, memory_bytes=10)
    with spool.receive(iter([b"x" * 1000]), "") as body:
        assert body.read() == b"x" * 1000
    with pytest.raises(BodyTooLarge, match="Ways out"):
        spool.receive(iter([zlib.compress(bytes(1001))]), "deflate")


def test_spooled_files_leave_nothing_behind(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "left by a kill").write_bytes(b"x")
    spool = Spool(folder, body_bytes_max=1 << 20, memory_bytes=1)
    with spool.receive(iter([b"head", b"tail"]), "") as body:
        body.seek(4)
        assert list(pieces_from(body, b"head")) == [b"head", b"tail"]
    assert list(folder.iterdir()) == []

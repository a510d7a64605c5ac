"""Dead letters named, chosen and shown: what others wrote never steers a terminal, and what cannot go back says why."""

import json

import pytest

from infra.ports import Record
from infra.repair.letters import LETTER_TOPICS, Filter, Letter, letters_in
from infra.repair.shown import as_json, as_text, text_of
from schemas.base import UNREADABLE_HEADERS, Reason
from schemas.refused_rows import RefusedRows
from schemas.topics import DECLARED
from tests.dead_letter_records import buried


def letter(value=b"x", **more):
    ((found),) = letters_in(iter([buried(value, **more)]), Filter())
    assert isinstance(found, Letter)
    return found


def test_a_letter_is_named_by_its_origin():
    assert letter().name == "inference.requests/3/17"
    assert Filter("inference.requests/3/17").topics() == ["inference.requests.dead-letters"]
    assert Filter("no.such/3/17").topics() == []
    assert Filter().topics() == [topic.name for topic in LETTER_TOPICS]
    assert len(LETTER_TOPICS) == sum(topic.processed for topic in DECLARED)


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (Filter(), True),
        (Filter(topic="inference.requests", reason=Reason.BAD_VALUE, stage="worker", since_ms=5_000), True),
        (Filter(since_ms=5_001), False),
        (Filter(reason=Reason.NOT_JSON), False),
        (Filter(stage="jobs.score"), False),
        (Filter(topic="inference.telemetry"), False),
        (Filter("inference.requests/3/18"), False),
    ],
)
def test_filters(wanted, takes):
    assert wanted.takes(letter()) is takes


def test_what_is_no_letter_is_handed_through():
    record = Record("inference.requests.dead-letters", 0, 1, 1, None, b"x")
    assert list(letters_in(iter([record]), Filter())) == [record]


def test_the_requeue_id_is_of_origin_and_content():
    same = [letter(), letter(at=9, detail="other words", stage="jobs.score")]
    assert len({one.requeue_id for one in same}) == 1
    others = [
        letter(b"y"),
        letter(key=None),
        letter(key=b""),
        letter(partition=4),
        letter(offset=18),
        letter(headers=()),
        letter(headers=(("ce_id", None),)),
        letter(b"userx", key=b""),
    ]
    assert len({one.requeue_id for one in [*others, letter()]}) == len(others) + 1


REFUSED = f"requests_stored refused 3 of 9 rows {RefusedRows(17, 5, ((4, 5), (9, 9))).detail()}: why"
MANY = f"requests_stored refused 900 of 900 rows {RefusedRows.of_offsets(range(0, 1_800, 2), 17, 5).detail()}: why"


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (letter(), None),
        (letter(topic="inference.telemetry"), None),
        (letter(topic="inference.windows"), "repeat"),
        (letter(topic="control.deployments"), "publish a new record"),
        (letter(topic="inference.telemetry", reason=Reason.REFUSED_BY_TABLE), "repeat"),
        (letter(topic="inference.telemetry", reason=Reason.REFUSED_BY_TABLE, detail=REFUSED), None),
        (letter(topic="inference.telemetry", reason=Reason.REFUSED_BY_TABLE, detail=MANY), "does not name all rows"),
        (letter(topic="inference.windows", reason=Reason.REFUSED_BY_TABLE, detail=REFUSED), "in their order"),
        (letter(b"x" * 2_000, key=None), "1,000 bytes of it were cut"),
        (letter(headers=tuple((f"h{n}", b"x" * 1_000) for n in range(60))), "headers of it were lost"),
        (
            letter(reason=Reason.WRONG_HEADERS, detail="a header's name is not UTF-8", headers=UNREADABLE_HEADERS),
            "headers of it were lost",
        ),
    ],
)
def test_what_cannot_go_back_says_why(made, why):
    assert made.why_not is None if why is None else why in made.why_not


EVIL = b'{"text": "\x1b[2J\x1b]0;owned\x07 red \xc2\x9b shoes \xe2\x80\xae\n"}\r\x00'


def test_nothing_that_others_wrote_steers_the_terminal():
    shown = as_text(
        letter(EVIL, detail="\x1b[31m", key=b"\x1bkey\n", headers=(("a\x1b[0m", b"\x9b1"), ("b", None)), stage="w\x07"),
        None,
        2_048,
        as_hex=False,
    )
    assert all(one.isprintable() or one == "\n" for one in shown), shown
    assert r"\x1b[2J" in shown
    assert "header   b: null" in shown
    assert "\\n" in shown.splitlines()[4]


def test_bytes_that_are_no_text_are_shown_as_numbers():
    shown = as_text(letter(b"\xff\xfe\x00shoes"), None, 2_048, as_hex=False)
    assert "00000000  ff fe 00 73 68 6f 65 73" in shown
    assert "|...shoes|" in shown
    assert "72 65 64" in as_text(letter(b"red"), None, 2_048, as_hex=True)


def test_a_long_value_is_cut_and_says_so():
    shown = as_text(letter("é".encode() * 400), None, 101, as_hex=False)
    assert "... 699 more bytes: --bytes shows more" in shown
    assert "é" * 50 in shown
    assert "value    800 bytes" in shown
    assert text_of("é".encode()[:1]) is None
    assert "none (a tombstone)" in as_text(letter(None), None, 10, as_hex=False)


def test_json_has_everything_in_base64_and_only_when_asked_for():
    told = json.loads(json.dumps(as_json(letter(EVIL), None, 4)))
    assert (told["value"][:4], told["key"], told["headers"]) == ("eyJ0", "dXNlcg==", [["ce_id", "YQ=="]])
    assert told["value_bytes"] == len(EVIL)
    assert "value" not in as_json(letter(EVIL), None)

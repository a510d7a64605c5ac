"""What a newer release sends is told from rubbish by the headers that all our writers set."""

import pytest

from schemas.base import UNREADABLE_HEADERS
from schemas.newer import unknown_kind
from schemas.requests import InferenceRequested
from tests.unit.schemas.test_envelope import headers

KNOWN = {InferenceRequested.KIND}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, "inferwatch.moon.risen.v1"),
        ({"ce_type": b"inferwatch.moon.risen.v2"}, "inferwatch.moon.risen.v2"),
        ({"ce_type": b"inferwatch.inference.requested.v1"}, None),  # known, here or on another topic
        ({"ce_type": b"com.example.order"}, None),
        ({"ce_type": b"inferwatch.moon.risen"}, None),
        ({"ce_type": ...}, None),
        ({"ce_id": ...}, None),
        ({"ce_source": b""}, None),
        ({"ce_specversion": b"0.3"}, None),
        ({"ce_dataschema": ...}, None),
        ({"ce_dataschema": b"urn:inferwatch:schema:sun.risen:1.0"}, None),
        ({"content__type": ...}, None),
        ({"content__type": b"text/plain"}, None),
        ({"ce_type": b"\xff"}, None),
        ({"ce_source": None}, None),
        ({"ce_subject": b"\xff"}, "inferwatch.moon.risen.v1"),  # nobody reads it
    ],
)
def test_an_event_of_a_newer_release_is_known_as_such(changes, found):
    newer = {"ce_type": b"inferwatch.moon.risen.v1", "ce_dataschema": b"urn:inferwatch:schema:moon.risen:1.0"}
    assert unknown_kind(headers(**{**newer, "content__type": b"application/json", **changes}), KNOWN) == found


def test_no_headers_are_no_event_of_a_newer_release():
    assert unknown_kind(None, KNOWN) is None
    assert unknown_kind(UNREADABLE_HEADERS, KNOWN) is None

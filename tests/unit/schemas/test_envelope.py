"""The envelope: what is read, what becomes a dead letter and with which reason."""

from datetime import UTC, datetime

import pytest

from schemas.base import DecodeError, Reason, decode, encode, headers_for
from schemas.predictions import PREDICTION_KINDS, InferenceFailed, ModelRef, RequestShed
from schemas.requests import InferenceRequested
from schemas.telemetry import TELEMETRY_KINDS, InferenceServed

KINDS = (InferenceRequested,)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def headers(**changes):
    pairs = dict(headers_for(InferenceRequested, event_id="a-1", source="shop", time=datetime(2026, 1, 2, tzinfo=UTC)))
    pairs.update({name.replace("__", "-"): value for name, value in changes.items()})
    return [(name, value) for name, value in pairs.items() if value is not ...]


def read(value, pairs=()):
    return decode(pairs, value, KINDS, plain=InferenceRequested)


def test_plain_json_is_a_whole_request():
    envelope = read(b'{"input": "red shoes"}')
    assert envelope.data.inputs == ["red shoes"]
    assert (envelope.event_id, envelope.data.scenario) == (None, "search")


def test_headers_become_attributes():
    envelope = read(b'{"input": ["a", "b"]}', headers(ce_subject=b"user-7", traceparent=TRACE.encode()))
    assert (envelope.event_id, envelope.source, envelope.subject) == ("a-1", "shop", "user-7")
    assert envelope.time == datetime(2026, 1, 2, tzinfo=UTC)
    assert envelope.traceparent == TRACE
    assert envelope.data.inputs == ["a", "b"]


@pytest.mark.parametrize(
    "trace", [b"", b"00-0-0-0", b"\xff", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01", TRACE.upper().encode()]
)
def test_an_invalid_trace_context_is_ignored(trace):
    assert read(b'{"input": "a"}', headers(traceparent=trace)).traceparent is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.NULL_VALUE),
        (b"", Reason.EMPTY_VALUE),
        (b"{", Reason.NOT_JSON),
        (b"nul", Reason.NOT_JSON),
        (b"\x00\x01", Reason.NOT_JSON),
        (b"[" * 100_000, Reason.NOT_JSON),
        (b'{"input": "\\ud800"}', Reason.NOT_JSON),
        (b'{"input": "a", "timeout_ms": ' + b"9" * 5000 + b"}", Reason.NOT_JSON),
        (b'{"input": "\xff"}', Reason.NOT_UTF8),
        (b'{"input": "\xed\xa0\x80"}', Reason.NOT_UTF8),
        (b"[]", Reason.NOT_AN_OBJECT),
        (b'"text"', Reason.NOT_AN_OBJECT),
        (b"3", Reason.NOT_AN_OBJECT),
        (b"{}", Reason.MISSING_FIELD),
        (b'{"input": null}', Reason.WRONG_TYPE),
        (b'{"input": 1}', Reason.WRONG_TYPE),
        (b'{"input": {"text": 3}}', Reason.WRONG_TYPE),
        (b'{"input": {"txt": "a"}}', Reason.BAD_VALUE),
        (b'{"input": {"text": "a", "embedding": [1.0]}}', Reason.BAD_VALUE),
        (b'{"input": {"text_pair": "a", "embedding": [1.0]}}', Reason.BAD_VALUE),
        (b'{"input": {"embedding": [1e999]}}', Reason.NON_FINITE_NUMBER),
        (b'{"input": "a", "task": "paint"}', Reason.BAD_VALUE),
        (b'{"input": "a", "task": "rerank"}', Reason.BAD_VALUE),
        (b'{"input": "a", "query": "b"}', Reason.BAD_VALUE),
        (b'{"input": "a", "generation": {"max_tokens": 3}}', Reason.BAD_VALUE),
        (b'{"input": ["a", 2]}', Reason.WRONG_TYPE),
        (b'{"input": "a", "timeout_ms": "5"}', Reason.WRONG_TYPE),
        (b'{"input": "a", "timeout_ms": NaN}', Reason.WRONG_TYPE),
        (b'{"input": []}', Reason.BAD_VALUE),
        (b'{"input": "a", "timeout_ms": 0}', Reason.BAD_VALUE),
        (b'{"input": "a", "timeout_ms": -3}', Reason.BAD_VALUE),
        (b'{"input": "a", "scenario": "No Such"}', Reason.BAD_VALUE),
        (b'{"input": "a", "task": "juggle"}', Reason.BAD_VALUE),
        (b'{"input": "' + b"a" * 10_000_000 + b'"}', Reason.TOO_LARGE),
    ],
)
def test_a_bad_value_has_a_reason(value, reason):
    with pytest.raises(DecodeError) as caught:
        read(value)
    assert caught.value.reason is reason
    assert 0 < len(caught.value.detail) <= 600


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ce_id": ...}, Reason.WRONG_HEADERS),
        ({"ce_id": b""}, Reason.WRONG_HEADERS),
        ({"ce_id": None}, Reason.WRONG_HEADERS),
        ({"ce_id": b"x" * 513}, Reason.WRONG_HEADERS),
        ({"ce_source": ...}, Reason.WRONG_HEADERS),
        ({"ce_specversion": b"0.3"}, Reason.WRONG_HEADERS),
        ({"ce_time": b"yesterday"}, Reason.WRONG_HEADERS),
        ({"ce_time": b"2026-01-02T00:00:00"}, Reason.WRONG_HEADERS),
        ({"ce_subject": b"\xff"}, Reason.WRONG_HEADERS),
        ({"ce_dataschema": b"urn:inferwatch:schema:alert.changed:1.0"}, Reason.WRONG_HEADERS),
        ({"ce_type": b"com.example.order"}, Reason.UNKNOWN_TYPE),
        ({"ce_type": b"inferwatch.inference.answered.v1"}, Reason.UNKNOWN_TYPE),
        ({"ce_type": b"inferwatch.inference.requested.v2"}, Reason.UNKNOWN_VERSION),
        ({"ce_dataschema": b"urn:inferwatch:schema:inference.requested:2.0"}, Reason.UNKNOWN_VERSION),
        ({"content__type": b"text/plain"}, Reason.WRONG_CONTENT_TYPE),
        ({"content__type": b"application/cloudevents+json"}, Reason.WRONG_CONTENT_TYPE),
    ],
)
def test_bad_headers_have_a_reason(changes, reason):
    with pytest.raises(DecodeError) as caught:
        read(b'{"input": "a"}', headers(**changes))
    assert caught.value.reason is reason


def test_a_newer_minor_version_is_read_and_its_fields_kept():
    pairs = headers(ce_dataschema=b"urn:inferwatch:schema:inference.requested:1.7")
    data = read(b'{"input": "a", "colour": "red", "nested": {"x": [1, 2]}}', pairs).data
    assert data.model_extra == {"colour": "red", "nested": {"x": [1, 2]}}
    assert b'"colour":"red"' in encode(data)


def test_a_topic_that_is_not_for_plain_json_says_so():
    with pytest.raises(DecodeError) as caught:
        decode([], b"{}", TELEMETRY_KINDS)
    assert caught.value.reason is Reason.WRONG_HEADERS


def test_the_type_chooses_among_a_topics_kinds():
    shed = RequestShed(
        request={"cluster_id": "c", "topic_id": "t", "partition": 0, "offset": 5},
        request_id="r",
        scenario="search",
        worker_id="w",
        reason="expired",
    )
    pairs = headers_for(shed, event_id=str(shed.request), source="w", time=datetime(2026, 1, 2, tzinfo=UTC))
    assert decode(pairs, encode(shed), PREDICTION_KINDS).data == shed
    assert str(shed.request) == "c/t/0/5"


def test_non_finite_numbers_are_refused():
    model = ModelRef(name="m", version="1")
    failed = InferenceFailed(
        request={"cluster_id": "c", "topic_id": "t", "partition": 0, "offset": 5},
        request_id="r",
        scenario="search",
        worker_id="w",
        model=model,
        error="X",
        message="",
    )
    assert failed.fingerprint == ""
    with pytest.raises(DecodeError) as caught:
        decode(
            headers_for(InferenceServed, event_id="1", source="w", time=datetime(2026, 1, 2, tzinfo=UTC)),
            served(total_ms="[1.0,NaN]"),
            TELEMETRY_KINDS,
        )
    assert caught.value.reason is Reason.NON_FINITE_NUMBER


def served(total_ms="[1.0,2.0]", offset="[3,4]", batch="[0,0]"):
    return (
        '{"cluster_id":"c","topic_id":"t","partition":0,"worker":{"worker_id":"w","host":"h","pid":1,"device":"cpu"},'
        '"models":[{"name":"m","version":"1"}],"scenarios":["search"],"batches":{"model":[0],"size":[2],"tokens":[9],'
        '"padded_tokens":[10],"tokenise_ms":[0.1],"compute_ms":[5.0],"reason":["full"],"queue_depth":[0],'
        '"memory_bytes":[1]},"requests":{"offset":' + offset + ',"appended_ms":[5,6],"outcome":["answered","failed"],'
        '"scenario":[0,-1],"batch":'
        + batch
        + ',"request_id":["a","b"],"queue_ms":[0.0,0.0],"total_ms":'
        + total_ms
        + ","
        '"inputs":[1,1],"input_bytes":[3,3],"tokens":[4,5],"unknown_share":[0.0,1.0],"output_norm":[1.0,0.0],'
        '"truncated":[false,false],"error":["","Broken"]}}'
    ).encode()


@pytest.mark.parametrize(
    "broken",
    [{"offset": "[4,3]"}, {"offset": "[3,3]"}, {"offset": "[3,4,5]"}, {"offset": "[]"}, {"batch": "[0,1]"}],
)
def test_telemetry_whose_columns_disagree_is_refused(broken):
    pairs = headers_for(InferenceServed, event_id="1", source="w", time=datetime(2026, 1, 2, tzinfo=UTC))
    assert decode(pairs, served(), TELEMETRY_KINDS).data.requests.offset == [3, 4]
    with pytest.raises(DecodeError) as caught:
        decode(pairs, served(**broken), TELEMETRY_KINDS)
    assert caught.value.reason is Reason.BAD_VALUE

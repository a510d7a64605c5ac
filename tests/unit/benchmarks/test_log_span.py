import pytest

from benchmarks.load_exchange import number_of
from benchmarks.log_span import Answer, answer_of, count_between
from infra.ports import Record
from schemas.predictions import InferenceAnswered, InferenceFailed, RequestShed


def record(headers, value=b'{"request": {"partition": 3, "offset": 41}}'):
    return Record("inference.predictions", 3, 9, 1_234, None, value, headers)


@pytest.mark.parametrize(
    ("kind", "outcome"), [(InferenceAnswered, "answered"), (InferenceFailed, "failed"), (RequestShed, "shed")]
)
def test_an_answer_names_its_request(kind, outcome):
    found = answer_of(record((("ce_id", b"x"), ("ce_type", kind.event_type().encode()))))
    assert found == Answer(3, 41, 1_234, outcome)


def test_anything_else_is_no_answer():
    assert answer_of(record(())) is None
    assert answer_of(record((("ce_type", b"somebody.else.v1"),))) is None
    assert answer_of(record((("ce_type", None),))) is None


def test_offsets_are_counted_over_partitions():
    assert count_between({0: 5, 1: 7}, {0: 9, 1: 7, 2: 2}) == 6


def test_a_request_of_this_step_carries_its_number():
    assert number_of(record((("ce_id", b"run-2/17"),)), "run-2") == 17
    assert number_of(record((("ce_id", b"run-1/17"),)), "run-2") is None
    assert number_of(record((("ce_id", b"01a207c1-8619"),)), "run-2") is None
    assert number_of(record(()), "run-2") is None
    assert number_of(record((("ce_id", b"/17"),)), "") is None

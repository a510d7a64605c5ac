"""What a newer release says on `inference.windows` is passed over by stage 2; what it cannot be sure of is not."""

from datetime import UTC, datetime

import pytest

from infra.ports import Record
from schemas.anomalies import WindowCorrected
from schemas.base import DecodeError, Message, Reason, headers_for
from schemas.telemetry import InferenceServed
from schemas.windows import PartialWindowsClosed
from tests.telemetry_events import T0
from tests.unit.stream_jobs.test_window_stage import Reader, column, partial, series


class MoonRisen(Message):
    """What a newer release says on the topic."""

    KIND = "moon.risen"
    phase: int


def headers(kind, **changes):
    found = dict(headers_for(kind, event_id="1", source="test", time=datetime.now(UTC)))
    return tuple((found | changes).items())


def refused(record_headers):
    with pytest.raises(DecodeError) as caught:
        Reader().stage.apply(Record("inference.windows", 0, 0, T0, None, b"{}", record_headers))
    return caught.value.reason


def test_what_a_newer_release_says_besides_is_passed_over_and_nothing_is_lost_of_the_rest():
    read, without = Reader(sources=1), Reader(sources=1)
    found = [read(one, T0) for one in (MoonRisen(phase=1), partial(0, series()), MoonRisen(phase=2))]
    assert [one.passed_over for one in found] == ["inferwatch.moon.risen.v1", None, "inferwatch.moon.risen.v1"]
    assert read.stage.next_offset == 3
    assert found[0].rows == {}
    expected = without(partial(0, series()), T0)
    assert column(found[1], "requests") == column(expected, "requests") == [100]
    assert found[1].rows.keys() == expected.rows.keys()


@pytest.mark.parametrize("kind", [WindowCorrected, InferenceServed])
def test_an_event_of_ours_that_belongs_to_another_topic_is_none_of_a_newer_release(kind):
    assert refused(headers(kind)) is Reason.UNKNOWN_TYPE


def test_an_event_of_others_is_a_dead_letter():
    assert refused(headers(MoonRisen, ce_type=b"com.example.moon")) is Reason.UNKNOWN_TYPE


def test_a_newer_major_version_of_a_kind_that_is_known_is_a_dead_letter():
    newer = headers(PartialWindowsClosed, ce_type=b"inferwatch.windows.partial_closed.v9")
    assert refused(newer) is Reason.UNKNOWN_VERSION

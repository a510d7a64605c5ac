"""What the audit expects of a telemetry event, beside what the job makes of it; and the fingerprint's two halves."""

import asyncio

import numpy as np
import pytest

from infra.audit import fingerprint
from infra.audit.expected_rows import APART, COMPARED, KEY, NOT_TOLD, NotStorable, expected
from infra.audit.letters import refused_of
from infra.audit.partition_counts import ALL_ROWS
from infra.ports import Record
from schemas.base import DecodeError, Reason
from schemas.dead_letters import DeadLetter
from schemas.tables import REQUESTS
from schemas.telemetry import Outcome, ProcessSample
from stream_jobs.request_log import AnyRequests
from stream_jobs.request_stage import RequestStage
from stream_jobs.settings import JobSettings
from stream_jobs.sink import RowSink
from tests.fakes import FakeTable
from tests.telemetry_events import T0, record, served, stored


def outcome(offset):
    return list(Outcome)[offset % 4]


def event(**more):
    return served(range(7, 47), outcome=outcome, scenario=lambda o: (o % 3) - 1, batches=2, **more)


def told_by_the_job(message, offset):
    stage = RequestStage(
        JobSettings(), topic_id="t", partition=0, window_partitions=1, requests=AnyRequests(), next_offset=offset
    )
    return stored(stage.apply(record(message, offset, T0)))


def test_every_column_is_compared_or_said_not_to_be():
    names = [column.name for column in COMPARED]
    assert sorted([*names, *KEY, *APART, *NOT_TOLD]) == sorted(REQUESTS.column_names)
    assert set(expected(event(), 3)) == set(names)


@pytest.mark.parametrize("sample", [None, ProcessSample(process_cpu_share=1.5, process_memory_bytes=7, publish_ms=2.5)])
def test_the_job_stores_what_is_expected(sample):
    message = event().model_copy(update={"sample": sample})
    rows, wanted = told_by_the_job(message, 12), expected(message, 12)
    for column in COMPARED:
        seen = [None if value != value else value for value in rows[column.name]]
        assert seen == list(wanted[column.name]), column.name


@pytest.mark.parametrize("column", [column.name for column in COMPARED])
def test_one_altered_value_alters_the_fingerprint_of_its_row_alone(column):
    values = {name: list(found) for name, found in expected(event(), 12).items()}
    before = fingerprint.prints_of(COMPARED, values)
    old = values[column][5]
    values[column][5] = f"{old}x" if isinstance(old, str) else not old if isinstance(old, bool) else (old or 0) + 1
    after = fingerprint.prints_of(COMPARED, values)
    assert np.flatnonzero(before != after).tolist() == [5]


def test_a_null_is_no_number_and_minus_zero_is_zero():
    columns = [column for column in COMPARED if column.name in ("publish_ms", "queue_ms")]
    found = fingerprint.prints_of(columns, {"queue_ms": [0.0, -0.0, 0.0], "publish_ms": [None, None, 0.0]})
    assert found[0] == found[1] != found[2]


def test_a_number_that_no_row_can_hold_is_no_row():
    message = event(tokens=2**32)
    with pytest.raises(NotStorable, match="tokens"):
        expected(message, 1)
    with pytest.raises(DecodeError, match=r"tokens|size"):
        told_by_the_job(message, 1)


def letter(reason, detail, topic="inference.telemetry"):
    made = DeadLetter.of(
        topic=topic,
        partition=2,
        offset=9,
        stage="jobs.score",
        reason=reason,
        detail=detail,
        key=None,
        value=b"x",
        headers=(),
        value_bytes_max=100,
    )
    return Record("inference.telemetry.dead-letters", 0, 0, 0, None, b"x", tuple(made.record_headers()))


@pytest.mark.parametrize(
    ("made", "rows"),
    [
        (letter(Reason.NOT_JSON, "no"), ((2, 9), ALL_ROWS)),
        (letter(Reason.REFUSED_BY_TABLE, f"{REQUESTS.name} refused 3 of 50 rows (1, 2, 3): why"), ((2, 9), 3)),
        (letter(Reason.REFUSED_BY_TABLE, "windows_stored refused 1 of 2 rows (0): why"), ((2, 9), 0)),
        (letter(Reason.TOO_LARGE, "an event of 9 bytes for x, made from this record, was refused: y"), ((2, 9), 0)),
        (letter(Reason.NOT_JSON, "no", topic="inference.requests"), None),
        (Record("inference.telemetry.dead-letters", 0, 0, 0, None, b"x"), None),
    ],
)
def test_dead_letters_say_how_many_rows_they_explain(made, rows):
    assert refused_of(made) == rows


class Owner:
    """Who handed rows over to the sink."""

    alive = True

    def __init__(self):
        self.letters = []

    def dead_letter(self, record, error):
        self.letters.append((record, error))


def test_what_the_sink_says_of_refused_rows_is_understood():
    async def refuse_three():
        owner, source = Owner(), record(event(), 9, T0, partition=2)
        sink = RowSink(FakeTable(bad=lambda row: row["n"] in (1, 4, 7)), threads=1)
        sink.add(owner, source, {REQUESTS.name: {"n": list(range(10))}})
        await sink.flush()
        sink.close()
        return owner.letters

    ((source, error),) = asyncio.run(refuse_three())
    assert source.offset == 9
    assert refused_of(letter(error.reason, error.detail)) == ((2, 9), 3)

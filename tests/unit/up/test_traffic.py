from datetime import UTC, datetime

from infra.ports import Record
from infra.up.books import Books
from infra.up.traffic import INCIDENTS_MAX, Traffic
from schemas import topics
from schemas.alerts import AlertChanged, AlertStatus
from schemas.anomalies import AnomalyKind
from schemas.base import Identity, Reason, encode, headers_for
from schemas.dead_letters import DeadLetter
from schemas.predictions import Embedding, InferenceAnswered, InferenceFailed, ModelRef, Timings
from schemas.telemetry import BatchColumns, BatchReason, InferenceServed, Outcome, RequestColumns, WorkerRef
from schemas.windows import SeriesKey

MODEL = ModelRef(name="minilm", version="1")
TIME = datetime(2026, 1, 1, tzinfo=UTC)


def traffic(alert_ends=None) -> Traffic:
    return Traffic(Books("c", "t", {0: 0, 1: 0}), alert_ends or {})


def record(topic, message, partition=0, offset=0, key=None) -> Record:
    headers = headers_for(message, event_id="e", source="test", time=TIME)
    return Record(topic.name, partition, offset, 1_000, key, encode(message), tuple(headers))


def answered(offset: int, topic_id: str = "t") -> Record:
    message = InferenceAnswered(
        request=Identity(cluster_id="c", topic_id=topic_id, partition=0, offset=offset),
        request_id="r",
        scenario="search",
        worker_id="w",
        model=MODEL,
        outputs=[Embedding(vector="AAAAAA==", dimension=1)],
        timings_ms=Timings(queue=1.0, tokenise=1.0, compute=1.0, total=3.0),
    )
    return record(topics.PREDICTIONS, message)


def failed(offset: int) -> Record:
    message = InferenceFailed(
        request=Identity(cluster_id="c", topic_id="t", partition=0, offset=offset),
        request_id="r",
        scenario="search",
        worker_id="w",
        model=MODEL,
        error="ValueError",
        message="no",
    )
    return record(topics.PREDICTIONS, message)


def served(offsets: list[int], outcomes: list[Outcome], topic_id: str = "t") -> Record:
    n = len(offsets)
    message = InferenceServed(
        cluster_id="c",
        topic_id=topic_id,
        partition=0,
        worker=WorkerRef(worker_id="w", host="h", pid=1, device="cpu"),
        models=[MODEL],
        scenarios=["search"],
        batches=BatchColumns(
            model=[0],
            size=[n],
            tokens=[n],
            padded_tokens=[n],
            tokenise_ms=[1.0],
            compute_ms=[1.0],
            reason=[BatchReason.FULL],
            queue_depth=[0],
            memory_bytes=[1],
        ),
        requests=RequestColumns(
            offset=offsets,
            appended_ms=[1_000] * n,
            outcome=outcomes,
            scenario=[0] * n,
            batch=[0] * n,
            request_id=["r"] * n,
            queue_ms=[1.0] * n,
            total_ms=[20.0] * n,
            inputs=[1] * n,
            input_bytes=[4] * n,
            tokens=[3] * n,
            unknown_share=[0.0] * n,
            output_norm=[1.0] * n,
            truncated=[False] * n,
            error=[""] * n,
        ),
    )
    return record(topics.TELEMETRY, message)


def dead_letter(offset: int, topic: str = topics.REQUESTS.name, topic_id: str = "") -> Record:
    letter = DeadLetter.of(
        topic=topic,
        partition=0,
        offset=offset,
        stage="worker",
        reason=Reason.NOT_JSON,
        detail="no",
        key=None,
        value=b"{",
        headers=(),
        value_bytes_max=100,
        topic_id=topic_id,
    )
    return Record(letter.dead_letter_topic, 0, 0, 1_000, None, letter.value, tuple(letter.record_headers()))


def alert(incident: str, sequence: int, status: AlertStatus, offset: int) -> Record:
    message = AlertChanged(
        incident_id=incident,
        sequence=sequence,
        status=status,
        kind=AnomalyKind.LATENCY_SHIFT,
        series=SeriesKey(model="m", version="1", scenario="search"),
        metric="total_ms_p95",
        summary=f"{incident} is slow",
        opened_ms=1,
        onset_ms=1,
        changed_ms=1,
        windows=1,
        score=1.0,
        peak_score=1.0,
        actual=2.0,
        expected=1.0,
        lower=0.0,
        upper=1.5,
        anomaly_id="a",
    )
    return record(topics.ALERTS, message, offset=offset, key=incident.encode())


def test_every_kind_of_record_finds_its_place_in_the_books():
    ours = traffic()
    ours.fold([answered(0), failed(1), dead_letter(2), answered(3)], now=5.0)
    outcomes = [Outcome.ANSWERED, Outcome.FAILED, Outcome.DEAD_LETTERED, Outcome.ANSWERED]
    ours.fold([served([0, 1, 2, 3], outcomes)], now=6.0)
    account = ours.books.account({0: 4, 1: 0}, {0: {"answered": 2, "failed": 1, "dead_lettered": 1}})
    assert (account.answered, account.failed, account.dead_lettered, account.owed) == (2, 1, 1, 0)
    assert account.balanced
    assert ours.dead_letters == {"not_json": 1}
    assert ours.first_answer_at == 5.0
    assert ours.latency.counts.sum() == 2
    assert ours.devices == {"cpu"}


def test_what_belongs_to_another_topic_of_that_name_is_left_out():
    ours = traffic()
    ours.fold([answered(0, topic_id="older"), served([0], [Outcome.ANSWERED], topic_id="older")], now=1.0)
    account = ours.books.account({0: 1}, None)
    assert (account.answered, account.telemetry_rows) == (0, 0)
    assert ours.first_answer_at is None


def test_dead_letters_of_other_topics_are_shown_but_not_in_the_books():
    ours = traffic()
    ours.fold([dead_letter(0, topic=topics.TELEMETRY.name)], now=1.0)
    assert ours.dead_letters == {"not_json": 1}
    assert ours.books.account({0: 1}, None).dead_lettered == 0


def test_a_dead_letter_of_a_topic_that_was_deleted_is_not_of_the_one_made_anew():
    ours = traffic()
    ours.fold([dead_letter(0, topic_id="older")], now=1.0)
    assert ours.books.account({0: 1}, None).dead_lettered == 0
    ours.fold([answered(0)], now=1.0)
    assert (ours.books.account({0: 1}, None).answered, ours.books.repeats) == (1, 0)
    ours.fold([dead_letter(1, topic_id=ours.books.topic_id), dead_letter(2)], now=1.0)
    assert ours.books.account({0: 3}, None).dead_lettered == 2


def test_records_that_are_not_ours_are_counted_and_harm_nothing():
    ours = traffic()
    junk = [
        Record(topics.PREDICTIONS.name, 0, 0, 1, None, b"{", (("ce_type", b"inferwatch.inference.answered.v1"),)),
        Record(topics.PREDICTIONS.name, 0, 0, 1, None, b"{}", (("ce_type", b"\xff"),)),
        Record(topics.PREDICTIONS.name, 0, 0, 1, None, None, (("ce_type", None),)),
        Record(topics.TELEMETRY.name, 0, 0, 1, None, b"{}", ()),
        Record(topics.REQUESTS.name + ".dead-letters", 0, 0, 1, None, b"{}", ()),
        Record(topics.ALERTS.name, 0, 0, 1, None, b"{}", ()),
        Record(topics.ANOMALIES.name, 0, 0, 1, None, b"{}", ()),
    ]
    ours.fold(junk, now=1.0)
    assert ours.unreadable == len(junk)
    assert ours.anomalies == 0


def test_of_the_changes_of_an_incident_the_highest_sequence_wins_and_each_counts_once():
    ours = traffic()
    ours.fold([alert("a", 0, AlertStatus.OPEN, 0), alert("a", 0, AlertStatus.OPEN, 1)], now=1.0)
    ours.fold([alert("a", 1, AlertStatus.RESOLVED, 2), alert("a", 1, AlertStatus.RESOLVED, 3)], now=1.0)
    ours.fold([alert("a", 0, AlertStatus.OPEN, 4)], now=1.0)  # by a job that was stopped, and continued
    assert (ours.alerts_opened, ours.alerts_resolved, ours.open_alerts) == (1, 1, {})


def test_incidents_remembered_are_bounded():
    ours = traffic()
    for number in range(INCIDENTS_MAX + 10):
        ours._is_news(AlertChanged.model_construct(incident_id=str(number), sequence=0))
    assert len(ours._alert_sequences) == INCIDENTS_MAX


def test_alerts_open_and_resolve_and_history_is_not_counted():
    ours = traffic(alert_ends={0: 2})
    ours.fold([alert("old", 0, AlertStatus.OPEN, 0), alert("older", 0, AlertStatus.RESOLVED, 1)], now=1.0)
    assert (ours.alerts_opened, ours.alerts_resolved) == (0, 0)
    assert list(ours.open_alerts) == ["old"]
    ours.fold([alert("new", 0, AlertStatus.OPEN, 2), alert("new", 1, AlertStatus.UPDATED, 3)], now=1.0)
    assert (ours.alerts_opened, sorted(ours.open_alerts)) == (1, ["new", "old"])
    ours.fold([alert("new", 2, AlertStatus.RESOLVED, 4), alert("old", 1, AlertStatus.RESOLVED, 5)], now=1.0)
    assert (ours.alerts_opened, ours.alerts_resolved, ours.open_alerts) == (1, 2, {})

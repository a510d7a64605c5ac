"""What a replay says of an anomaly whose telemetry is gone or differs, of an alert, of what cannot be recomputed."""

import json

import pytest

from infra.ports import RetryLater, TryAgain
from schemas.alerts import PIPELINE, alert_row
from schemas.tables import ALERTS
from stream_jobs import replay_cli
from stream_jobs.replay import kafka_telemetry
from stream_jobs.replay.recompute import AnomalyRow, NotReproducible, recompute
from stream_jobs.replay.report import Result, replay_alert, replay_anomaly
from stream_jobs.window_rows import RESIDUAL, SeriesWindow
from tests.anomaly_rows import KEY, faulty_run

GONE = "offsets 5 to 9 of inference.telemetry[0] have expired: the log begins at 12"


@pytest.fixture(scope="module")
def stored():
    """As a table keeps them."""
    return json.loads(json.dumps(faulty_run().anomalies()))


@pytest.fixture(scope="module")
def scored(stored):
    return next(row for row in stored if row["metric"] == "total_ms_p95")


@pytest.fixture(scope="module")
def told(stored):
    """An alert's id, the anomalies that it rests on, and its row as it opened."""
    for row in stored:
        change = recompute(AnomalyRow(row)).alert
        if change is not None and change.sequence == 0:
            return change.incident_id, [row], alert_row(change)
    raise AssertionError("no anomaly opens an alert")


class Windows:
    """`report.Windows`: what telemetry gives again, or why it does not; and the row that was stored."""

    def __init__(self, again, row=None):
        self.given, self.stored = again, row

    def again(self, stored):
        if isinstance(self.given, Exception):
            raise self.given
        return self.given

    def row(self, stored):
        return self.stored


def window(row, value=None):
    """A window that has what the anomaly was scored from, or another value."""
    taken = json.loads(row["scored_input"])
    values = {row["metric"]: taken["value"] if value is None else value, "total_ms_p50": taken["confirming"]}
    return SeriesWindow(KEY, 1_000, 1_000, values, {"requests": 1_000, "revision": 0}, AnomalyRow(row).inputs)


def columns(found):
    return {one.column for one in found.differences}


def test_without_telemetry_the_row_is_recomputed(scored):
    found = replay_anomaly(scored, None)
    assert (found.result, found.source, found.notes) == (Result.REPRODUCED, "row", [])


@pytest.mark.parametrize("why", [NotReproducible(GONE), RetryLater("Kafka is away")])
def test_telemetry_that_cannot_be_had_leaves_the_row_and_says_why(scored, why):
    found = replay_anomaly(scored, Windows(why))
    assert (found.result, found.source) == (Result.REPRODUCED, "row")
    assert found.notes == [f"recomputed from the row, not from telemetry: {why}"]


def test_who_insists_on_telemetry_is_told_why_it_cannot_be_said(scored):
    found = replay_anomaly(scored, Windows(NotReproducible(GONE)), insist=True)
    assert (found.result, found.why, found.as_json()["why"]) == (Result.CANNOT, GONE, GONE)
    with pytest.raises(RetryLater, match="away"):
        replay_anomaly(scored, Windows(RetryLater("away")), insist=True)


def test_the_window_again_is_compared_by_value_and_by_row(scored):
    whole = {"requests": 1_000, "revision": 0}
    found = replay_anomaly(scored, Windows(window(scored), whole), insist=True)
    assert (found.result, found.source, found.notes) == (Result.REPRODUCED, "telemetry", [])
    assert columns(replay_anomaly(scored, Windows(window(scored), {**whole, "requests": 999}))) == {"windows.requests"}
    other = replay_anomaly(scored, Windows(window(scored, 3.0), whole))
    assert (other.result, "telemetry.value" in columns(other)) == (Result.DIFFERS, True)


@pytest.mark.parametrize(
    ("row", "note"),
    [(None, "row is gone: only its value"), ({"requests": 999, "revision": 1}, "corrected since (revision 1)")],
)
def test_a_row_that_is_not_the_window_of_then_is_not_compared_and_that_is_said(scored, row, note):
    found = replay_anomaly(scored, Windows(window(scored), row))
    assert found.result is Result.REPRODUCED
    (said,) = found.notes
    assert note in said


def test_telemetry_that_holds_nothing_of_the_series_differs(scored):
    found = replay_anomaly(scored, Windows(None))
    assert (found.result, columns(found)) == (Result.DIFFERS, {"telemetry"})


def test_what_no_telemetry_shows_is_recomputed_from_the_row_and_said(stored, scored):
    broken = Windows(AssertionError("nothing is to be read"))
    absent = next(row for row in stored if not json.loads(row["scored_input"])["is_present"])
    found = replay_anomaly(absent, broken, insist=True)
    assert (found.result, found.notes) == (
        Result.REPRODUCED,
        ["the window held nothing of the series: there is no telemetry to read"],
    )
    residual = replay_anomaly({**scored, "metric": RESIDUAL}, broken)
    assert residual.notes == ["its value rests on what a regression had learnt: the stored one was taken"]


@pytest.mark.parametrize("kind", ["stall", "lag"])
def test_what_the_ledger_said_cannot_be_recomputed_and_the_way_out_is_named(scored, kind):
    said = {**scored, "kind": kind, "scored_input": "", "scored_config": ""}
    found = replay_anomaly(said, None)
    assert found.result is Result.CANNOT
    assert "what the ledger said was owed" in found.why
    assert "inferwatch books --since" in found.why


def replayed(told):
    return [replay_anomaly(row, None) for row in told[1]]


def test_an_alert_whose_opening_comes_out_is_reproduced(told):
    report = replay_alert(told[0], told[2], replayed(told))
    assert (report.result, report.exit_code, report.differences) == (Result.REPRODUCED, 0, [])
    assert "alert budget" in report.notes[-1]


def test_an_alert_that_was_told_otherwise_differs_column_by_column(told):
    altered = {**told[2], "kind": "oom", "peak_score": told[2]["peak_score"] + 2**-50}
    report = replay_alert(told[0], altered, replayed(told))
    assert (report.result, report.exit_code) == (Result.DIFFERS, 70)
    assert {one.column for one in report.differences} == {"alert.kind", "alert.peak_score"}


def test_an_alert_that_none_of_its_anomalies_opens_differs(told):
    report = replay_alert("another", told[2], replayed(told))
    assert [(one.column, one.recomputed) for one in report.differences] == [("alert", "none of its anomalies opens it")]


def test_how_an_alert_was_resolved_is_not_said(told):
    resolved = {**told[2], "status": "resolved", "sequence": 7}
    report = replay_alert(told[0], resolved, replayed(told))
    assert report.exit_code == 0
    assert any("inferwatch rebuild" in note for note in report.notes)


def test_an_alert_of_the_watchdog_cannot_be_said(told):
    anomaly = replay_anomaly({**told[1][0], "scenario": PIPELINE, "kind": "lag", "scored_input": ""}, None)
    assert (anomaly.result, anomaly.why.startswith("a watchdog told it")) == (Result.CANNOT, True)
    report = replay_alert("w", {**told[2], "scenario": PIPELINE}, [anomaly])
    assert (report.result, report.exit_code) == (Result.CANNOT, 65)
    assert report.notes == ["a watchdog told it, from what it saw of Kafka then: nothing of that is kept"]


def test_an_alert_without_its_anomalies_cannot_be_said(told):
    report = replay_alert(told[0], told[2], [])
    assert (report.exit_code, report.notes) == (65, ["its anomalies are not in the table, or not any more"])


class Tables:
    """The tables with one alert and its anomaly."""

    def __init__(self, told):
        self.told = told

    def query(self, sql, parameters):
        names = sql.removeprefix("SELECT ").split(" FROM ")[0].replace("`", "").split(", ")
        if "anomaly_id =" in sql:
            return names, []
        rows = [self.told[2]] if f"FROM {ALERTS.view} " in sql else self.told[1]
        return names, [tuple(row[name] for name in names) for row in rows]


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ("auto", 0, f"recomputed from the row, not from telemetry: {GONE}"),
        ("kafka", 65, GONE),
        ("clickhouse", 0, None),
    ],
)
def test_the_command_falls_back_to_rows_unless_it_must_not(monkeypatch, told, source, code, said):
    monkeypatch.setattr(kafka_telemetry, "KafkaTelemetry", lambda *_: Windows(NotReproducible(GONE)))
    monkeypatch.setattr("infra.connect.kafka_connection", lambda: None)
    report = replay_cli._replayed(Tables(told), told[0], source)
    assert report.exit_code == code
    (one,) = report.anomalies
    assert said in ([None] if source == "clickhouse" else [one.why, *one.notes])
    assert not (source == "clickhouse" and one.notes)


def test_without_kafka_only_who_insists_on_it_fails(monkeypatch, told):
    def away():
        raise TryAgain("no Kafka")

    monkeypatch.setattr("infra.connect.kafka_connection", away)
    assert replay_cli._replayed(Tables(told), told[0], "auto").exit_code == 0
    with pytest.raises(TryAgain):
        replay_cli._replayed(Tables(told), told[0], "kafka")

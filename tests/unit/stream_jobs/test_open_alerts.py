from infra.ports import Record
from stream_jobs.open_alerts import open_alerts
from tests.alert_events import alert


def test_the_highest_sequence_says_where_an_incident_stands():
    records = [
        alert("open", 0, "open"),
        alert("worse", 0, "open"),
        alert("worse", 1, "updated"),
        alert("over", 0, "open"),
        alert("over", 1, "resolved"),
        alert("over", 0, "open"),  # told again by a process that was behind
        Record("alerts", 0, 9, 0, b"?", b"{", ()),
        alert("forgotten", 0, "open"),
        Record("alerts", 0, 10, 0, b"forgotten", None, ()),
    ]
    assert [(one.incident_id, one.sequence) for one in open_alerts(records)] == [("open", 0), ("worse", 1)]

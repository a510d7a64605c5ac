"""Alert records for tests."""

from datetime import UTC, datetime

from infra.ports import Record
from schemas.alerts import AlertChanged
from schemas.base import encode, headers_for

SERIES = {"model": "mini", "version": "1", "scenario": "search"}


def changed(incident_id, sequence, status, at_ms=1, **values):
    """A change of an incident."""
    times = dict.fromkeys(("opened_ms", "onset_ms", "changed_ms"), at_ms)
    numbers = dict.fromkeys(("actual", "expected", "lower", "upper"), 1.0) | {"score": 0.9, "peak_score": 0.9}
    texts = {"kind": "latency_shift", "metric": "total_ms_p95", "summary": "It is slow.", "anomaly_id": "a"}
    named = {"incident_id": incident_id, "sequence": sequence, "status": status, "series": SERIES, "windows": 5}
    return AlertChanged.model_validate(named | times | numbers | texts | values, strict=False)


def alert(incident_id, sequence, status, offset=0):
    """The same as a record of the alert topic."""
    message = changed(incident_id, sequence, status)
    headers = headers_for(message, event_id="e", source="test", time=datetime.fromtimestamp(0, UTC))
    return Record("alerts", 0, offset, 1, incident_id.encode(), encode(message), tuple(headers))

"""Anomalies recomputed from their rows alone: equal bit for bit, and not when anything was altered."""

import base64
import hashlib
import json
import struct
from pathlib import Path

import pytest

from schemas.tables import ANOMALIES
from stream_jobs.anomaly_basis import SCORING_FORMAT
from stream_jobs.decide import incident_id
from stream_jobs.replay.recompute import AnomalyRow, NotReproducible, recompute, same_bits
from tests.anomaly_rows import drifting_run, faulty_run


@pytest.fixture(scope="module")
def stored():
    """Rows of every kind, by metric; through JSON, as floats that a table keeps exactly."""
    rows = [*faulty_run().anomalies(), *drifting_run().anomalies()]
    return json.loads(json.dumps(rows))


def scored(stored):
    return next(row for row in stored if row["metric"] == "total_ms_p95")


def test_every_anomaly_comes_out_bit_for_bit(stored):
    metrics = {row["metric"] for row in stored}
    assert {"total_ms_p95", "error_share", "out_of_memory", "empty_share", "requests_per_second"} <= metrics
    assert "input_drift_psi" in metrics
    for row in stored:
        found = recompute(AnomalyRow(row))
        assert found.differences == ()
        assert dict(found.row) == {name: row[name] for name in ANOMALIES.column_names}


def test_the_alert_that_an_anomaly_opens_comes_out_with_its_name(stored):
    changes = [recompute(AnomalyRow(row)).alert for row in stored]
    opened = [one for one in changes if one is not None and one.sequence == 0]
    assert opened
    for one in opened:
        (row,) = [row for row in stored if row["anomaly_id"] == one.anomaly_id]
        assert one.incident_id == incident_id(one.series, one.metric, row["window_start"])


def columns_of(found):
    return {one.column for one in found.differences}


@pytest.mark.parametrize("column", ["score", "severity", "expected", "lower", "upper", "actual", "confidence"])
def test_one_bit_of_a_number_in_the_row_differs(stored, column):
    row = scored(stored)
    bits = struct.unpack("<q", struct.pack("<d", row[column]))[0]
    other = struct.unpack("<d", struct.pack("<q", bits ^ 1))[0]
    assert columns_of(recompute(AnomalyRow({**row, column: other}))) == {column}


def test_another_kind_or_onset_differs(stored):
    row = scored(stored)
    assert columns_of(recompute(AnomalyRow({**row, "kind": "timeout"}))) == {"kind"}
    assert columns_of(recompute(AnomalyRow({**row, "onset": row["onset"] - 10_000}))) == {"onset"}


def test_one_bit_of_the_state_differs_from_what_the_event_named(stored):
    row = scored(stored)
    state = row["state"].replace("1", "2", 1)
    assert columns_of(recompute(AnomalyRow({**row, "state": state}))) == {"state_digest"}


def test_a_state_with_a_digest_to_suit_is_told_by_the_scores(stored):
    row = scored(stored)
    state = json.loads(row["state"])
    state["trigger"]["level"] *= 1.0 + 2**-40
    text = json.dumps(state, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    found = columns_of(recompute(AnomalyRow({**row, "state": text, "state_digest": digest})))
    assert "strength" in found
    assert "score" not in found  # that is the detector's, which was left alone


def test_another_value_differs(stored):
    row = scored(stored)
    taken = json.loads(row["scored_input"])
    taken["value"] *= 1.0 + 2**-40
    found = columns_of(recompute(AnomalyRow({**row, "scored_input": json.dumps(taken)})))
    assert {"actual", "severity", "scored_input"} <= found


def test_a_value_that_is_no_anomaly_says_so(stored):
    row = scored(stored)
    taken = json.loads(row["scored_input"])
    taken["value"] = 100.0
    assert columns_of(recompute(AnomalyRow({**row, "scored_input": json.dumps(taken)}))) == {"anomalous"}


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"scoring_format": 0, "scored_input": "", "scored_config": ""}, "before what recomputes it was kept"),
        ({"scoring_format": SCORING_FORMAT + 1}, "the release that scored it"),
        ({"config_digest": "0" * 16}, "configured otherwise"),
        ({"metric": "no_such_metric"}, "does not score no_such_metric"),
        ({"scored_input": "{}"}, "scored_input is broken"),
        ({"scored_config": '{"alert":{"kind":"timeout"},"trigger":{"no":1},"detector":{}}'}, "scored_config"),
    ],
)
def test_it_says_why_it_cannot(stored, columns, why):
    with pytest.raises(NotReproducible, match=why):
        recompute(AnomalyRow({**scored(stored), **columns}))


def test_another_program_s_state_cannot_be_taken_over(stored):
    row = scored(stored)
    state = json.loads(row["state"])
    state["detector"] = base64.b64encode(base64.b64decode(state["detector"])[:-8]).decode()
    text = json.dumps(state)
    digest = hashlib.sha256(text.encode()).hexdigest()
    with pytest.raises(NotReproducible, match="stored state is broken"):
        recompute(AnomalyRow({**row, "state": text, "state_digest": digest}))


def test_bits_count():
    assert same_bits(float("nan"), float("nan"))
    assert not same_bits(0.0, -0.0)
    assert same_bits([1, 0.5, "a"], (1, 0.5, "a"))
    assert not same_bits([0.1], [0.1 + 2**-56])


def test_what_an_earlier_release_stored_comes_out_bit_for_bit():
    rows = json.loads((Path(__file__).resolve().parents[3] / "golden" / "anomalies.json").read_text())
    assert len({row["metric"] for row in rows}) >= 6
    for row in rows:
        assert row["scoring_format"] == SCORING_FORMAT
        found = recompute(AnomalyRow(row)).differences
        assert found == (), "what scores was changed: raise SCORING_FORMAT, and record the golden anomalies anew"

"""What telemetry that cannot be read means, with the dead letters that are there and those that are gone."""

import pytest

from infra.audit.findings import Findings
from infra.audit.partition_counts import PartitionAudit, Scope
from infra.audit.rows import Due
from infra.audit.stored_rows import RowReader
from infra.ports import Record
from tests.telemetry_events import T0, record, served


class NoRows:
    """A table that holds none."""

    def query(self, sql, parameters=None):
        return ("offset",), []


def unreadable(offset):
    return Record("inference.telemetry", 3, offset, 1_000, None, b"{", ())


@pytest.mark.parametrize(("complete", "silent"), [(True, {"silent": 1}), (False, {})])
def test_a_letter_that_retention_took_is_no_silent_loss(complete, silent):
    findings = Findings()
    rows = RowReader(NoRows(), "c", "t", "requests")
    scope = Scope(3, 0, 0, Due(0, 10, 10, whole=False))
    audit = PartitionAudit(rows, scope, {(3, 1): 2**31}, findings, lambda *_: None, looks_for_silent=complete)
    counts = audit.run([unreadable(1), unreadable(2)])
    assert counts.unreadable == 2
    assert {one.kind.value: one.count for one in findings.all()} == silent


def test_the_request_topics_of_our_cluster_that_were_told_of_are_known():
    rows = RowReader(NoRows(), "cluster-1", "requests-2", "requests")
    scope = Scope(0, 0, 0, Due(0, 10, 10, whole=False))
    audit = PartitionAudit(rows, scope, {}, Findings(), lambda *_: None, looks_for_silent=True)
    events = [served([number], topic_id=f"requests-{1 + number}") for number in (0, 1)]
    events.append(served([2], topic_id="requests-9").model_copy(update={"cluster_id": "another"}))
    counts = audit.run([record(event, offset, T0) for offset, event in enumerate(events)])
    assert counts.topic_ids == {"requests-1", "requests-2"}
    assert counts.other_topics == 2

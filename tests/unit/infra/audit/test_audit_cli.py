"""What `inferwatch audit counts` says and with which code it ends."""

import pytest

from infra.audit.audit_cli import as_object, as_text, exit_code
from infra.audit.counts import Audited
from infra.audit.findings import Findings, Kind
from infra.audit.partition_counts import PartitionCounts
from infra.audit.rows import Compared
from infra.audit.window_counts import WindowCounts
from infra.moments import Moment


def audited(findings=None, notes=(), **compared):
    found = findings or Findings()
    return Audited(
        ranges={0: ((0, 10), (0, 3))},
        rows=PartitionCounts(requests=10, compared=Compared(**compared)),
        windows=WindowCounts(windows=2, requests=9),
        differences=found.all(),
        counts=found.counts(),
        notes=list(notes),
    )


def missing():
    found = Findings()
    found.add(Kind.MISSING, 0, [3])
    return found


@pytest.mark.parametrize(
    ("found", "code", "last"),
    [
        (audited(matched=10), 0, "agrees"),
        (audited(matched=9, under_way=1), 75, "agrees, some is under way"),
        (audited(matched=9, owed=1), 75, "agrees, some is under way"),
        (audited(), 75, "nothing to compare"),
        (audited(missing(), matched=9), 70, "DIFFERS"),
        (audited(missing(), matched=8, under_way=1), 70, "DIFFERS"),
    ],
)
def test_code_and_verdict(found, code, last):
    assert exit_code(found) == code
    assert as_text(found).splitlines()[-1] == last


def test_text_names_what_differs_and_what_is_left_out():
    text = as_text(audited(missing(), ["retention"], matched=9, elsewhere=4))
    assert "difference: partition 0: 1 offsets told by telemetry, without a row: 3" in text
    assert "note: retention" in text
    assert "not judged                       4" in text
    assert as_object(audited(missing(), matched=9))["differences"][0]["ranges"] == [[3, 4]]


def test_moments():
    assert Moment(needs_zone=True).convert("2026-03-01T12:00:00Z", None, None) == 1_772_366_400_000
    assert Moment(needs_zone=True).convert("2026-03-01T13:00:00+01:00", None, None) == 1_772_366_400_000
    for wrong in ("2026-03-01T12:00:00", "yesterday"):
        with pytest.raises(Exception, match=r"zone|no moment"):
            Moment(needs_zone=True).convert(wrong, None, None)

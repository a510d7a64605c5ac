"""Which rows a window is counted from; on a table that answers what a test says. On a real one: tests/integration."""

from infra.audit.findings import Findings
from infra.audit.rows import Due
from infra.audit.stored_rows import RowReader
from infra.audit.window_counts import WindowAudit

TOLD = (2, 2, 0, 0, 0, 12)
WINDOW = (1_000, 2_000, "search", "m", "1", 0, *TOLD, [0], [0], [7])


class Table:
    """One window of two requests; each of two request topics has one of them."""

    def __init__(self):
        self.topics = []

    def query(self, sql, parameters=None):
        if "source_first_offsets" in sql:
            return (), [WINDOW] if parameters["start"] < 1_000 else []
        if "arrayJoin" in sql:
            return (), [(0, 7)]
        self.topics = parameters["topics"]
        rows = {"old": (2, "search", "m", "1", 1, 1, 0, 0, 0, 6), "new": (5, "search", "m", "1", 1, 1, 0, 0, 0, 6)}
        return (), [rows[topic] for topic in self.topics]


def counted(topic_ids):
    table, findings = Table(), Findings()
    rows = RowReader(table, "c", "new", "requests")
    due = {0: Due(0, 7, 7, whole=True)}
    audit = WindowAudit(table, rows, "telemetry", due, findings, caught_up=True, topic_ids=topic_ids)
    return audit.run(), findings.counts()["window_counts"]


def test_a_window_counts_the_requests_of_a_topic_that_was_made_anew_and_of_the_one_before():
    counts, differing = counted({"old"})
    assert (counts.windows, counts.requests, differing) == (1, 2, 0)


def test_rows_that_no_telemetry_tells_of_are_in_no_window():
    assert counted(set())[1] == 1

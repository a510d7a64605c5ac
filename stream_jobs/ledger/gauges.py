"""Shows in the metrics what is owed, how full the books are, and how old what is not saved."""

from __future__ import annotations

from collections.abc import Sequence

from infra.metrics import HELD, HELD_MAX, LEDGER_OLDEST_OWED_SECONDS, LEDGER_OWED_REQUESTS
from infra.ports import Clock, Record
from schemas.owed import PartitionOwed
from stream_jobs.ledger.partition_ledger import HELD_MAX as OWED_MAX


def show(told: Sequence[PartitionOwed], now_ms: int) -> None:
    """Set the gauges of each scenario of these books; those of others end, for their books are elsewhere now.
    `now_ms`: epoch milliseconds."""
    owed: dict[str, list[tuple[int, int | None]]] = {}
    for book in told:
        for one in book.scenarios:
            owed.setdefault(one.scenario, []).append((one.owed, one.oldest_ms))
    for family in (LEDGER_OWED_REQUESTS, LEDGER_OLDEST_OWED_SECONDS):
        for (scenario,), _ in family.cells():
            if scenario not in owed:
                family.remove(scenario=scenario)
    for scenario, rows in owed.items():
        oldest = [ms for _, ms in rows if ms is not None]
        LEDGER_OWED_REQUESTS.labels(scenario).set(sum(count for count, _ in rows))
        LEDGER_OLDEST_OWED_SECONDS.labels(scenario).set(max(0.0, (now_ms - min(oldest)) / 1000) if oldest else 0.0)
    HELD.labels("owed").set(max((float(sum(one.owed for one in book.scenarios)) for book in told), default=0.0))
    HELD_MAX.labels("owed").set(float(OWED_MAX))


class Unsaved:
    """The oldest record that the books took in and no save holds yet. For the ledger's thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._oldest_ms: int | None = None

    def took(self, records: Sequence[Record]) -> None:
        """These are in the books."""
        if self._oldest_ms is None and records:
            self._oldest_ms = min(record.timestamp_ms for record in records)

    def saved(self) -> None:
        """All that was taken in is in the state topic, or of books that are somebody else's."""
        self._oldest_ms = None

    def seconds(self) -> float:
        """Its age since its append; 0 when all is saved. From any thread."""
        oldest_ms = self._oldest_ms
        return 0.0 if oldest_ms is None else max(0.0, (self._clock.now_ms() - oldest_ms) / 1000)

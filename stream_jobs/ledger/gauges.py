"""Shows what is owed in the metrics."""

from __future__ import annotations

from collections.abc import Sequence

from infra.metrics import LEDGER_OLDEST_OWED_SECONDS, LEDGER_OWED_REQUESTS
from schemas.owed import PartitionOwed


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

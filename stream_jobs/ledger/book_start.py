"""Where the book of a request partition begins, and where one whose answers were deleted goes on: after all requests
whose answers may be gone."""

from __future__ import annotations

import logging

from infra.kafka import KafkaCluster
from infra.ports import RangeReader, Record
from infra.record_ranges import first_record
from infra.up.traffic import REQUEST_DEAD_LETTERS
from schemas.topics import PREDICTIONS, REQUESTS
from stream_jobs.ledger.partition_ledger import BookStart, PartitionLedger

LOG = logging.getLogger(__name__)
SKEW_MS = 60_000
"""How much the clocks of two brokers may differ, which append requests and their answers."""
LETTERS_SKEW_MS = 1_000
"""The same for dead letters, which name their topic and not its id: of a topic that was just made anew, those of the
one before must not be taken."""


class BookStarts:
    """Asks where books begin. Blocks."""

    def __init__(self, cluster: KafkaCluster, reader: RangeReader) -> None:
        self._cluster, self._reader = cluster, reader

    def start(self, partition: int) -> BookStart:
        """Of one partition. Raises RetryLater.

        An answer is appended after its request. So of a request appended at or after the oldest answer that is kept,
        every answer is kept; and none of a request is older than the first request of the book.
        """
        answers = self._cluster.ranges(PREDICTIONS.name).get(partition, (0, 0))
        letters = self._cluster.ranges(REQUEST_DEAD_LETTERS).get(0, (0, 0))
        kept, end = self._cluster.ranges(REQUESTS.name)[partition]
        first = kept
        for topic, number, (oldest, after) in (
            (PREDICTIONS.name, partition, answers),
            (REQUEST_DEAD_LETTERS, 0, letters),
        ):
            if oldest > 0:  # retention has taken some
                known = first_record(self._reader, topic, number, oldest, after)
                first = max(first, min(end, end if known is None else self._asked_since(known, partition)))
        asked = first_record(self._reader, REQUESTS.name, partition, first, end)
        if asked is None:  # asked for before the requests' end was: no answer to what follows it is missed
            return BookStart(end, answers[1], letters[1])
        return BookStart(
            asked.offset,
            self._cluster.offsets_at(PREDICTIONS.name, asked.timestamp_ms - SKEW_MS).get(partition, 0),
            self._cluster.offsets_at(REQUEST_DEAD_LETTERS, asked.timestamp_ms - LETTERS_SKEW_MS).get(0, 0),
        )

    def go_on(self, ledger: PartitionLedger) -> None:
        """Let a saved book go on, also where retention took answers before they were read: what was owed then is
        expired unless an answer that is kept says otherwise, and the account still adds up. Raises RetryLater."""
        positions = {place: offset for place, offset in ledger.positions.items() if place[0] != REQUESTS.name}
        kept = {(topic, n): self._cluster.ranges(topic).get(n, (0, 0))[0] for topic, n in positions}
        lost = {place: offset for place, offset in positions.items() if kept[place] > offset}
        if not lost:
            return
        first = self.start(ledger.partition).requests
        for (topic, _), offset in lost.items():
            LOG.warning(
                "%s[%d]: retention took answers on %s from offset %d on before they were read: what was asked before "
                "offset %d and has no answer among those that are kept is expired",
                REQUESTS.name,
                ledger.partition,
                topic,
                offset,
                first,
            )
        ledger.lose_answers(first, kept)

    def _asked_since(self, oldest: Record, partition: int) -> int:
        """The first request whose answers are no older than the oldest that is kept."""
        return self._cluster.offsets_at(REQUESTS.name, oldest.timestamp_ms + SKEW_MS)[partition]

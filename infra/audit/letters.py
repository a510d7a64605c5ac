"""Dead letters of telemetry: what the job refused, and how many rows the table refused of a record."""

from __future__ import annotations

import re

from infra.audit.partition_counts import ALL_ROWS
from infra.kafka import KafkaCluster
from infra.ports import RangeReader, Record
from infra.record_ranges import records_between
from schemas import tables, topics
from schemas.base import Reason
from schemas.dead_letters import DeadLetter

LETTERS_MAX = 500_000
"""Records remembered: about 100 MB."""
_MADE_OF = "made from this record, was refused"
_REFUSED = re.compile(rf"{tables.REQUESTS.name} refused (\d+) of \d+ rows")


def refused_rows(cluster: KafkaCluster, reader: RangeReader) -> tuple[dict[tuple[int, int], int], bool]:
    """Rows refused by (partition, telemetry offset), ALL_ROWS for a whole record, and whether all letters are there.

    Raises RetryLater.
    """
    topic = topics.dead_letters_of(topics.TELEMETRY).name
    found: dict[tuple[int, int], int] = {}
    complete = True
    for number, (first, after) in cluster.ranges(topic).items():
        complete = complete and first == 0
        for record in records_between(reader, topic, number, first, after):
            refused = refused_of(record)
            if refused is not None and len(found) < LETTERS_MAX:
                place, rows = refused
                found[place] = max(found.get(place, 0), rows)
    return found, complete and len(found) < LETTERS_MAX


def refused_of(record: Record) -> tuple[tuple[int, int], int] | None:
    """Which telemetry record a dead letter is of, and how many of its rows are refused; None when it is no letter."""
    try:
        letter = DeadLetter.from_record(record.headers, record.key, None)
    except ValueError:
        return None
    if letter.topic != topics.TELEMETRY.name:
        return None
    if letter.reason is not Reason.REFUSED_BY_TABLE:
        # Of an event that was made of the record and refused, the rows are stored all the same.
        return (letter.partition, letter.offset), 0 if _MADE_OF in letter.detail else ALL_ROWS
    match = _REFUSED.match(letter.detail)
    return (letter.partition, letter.offset), int(match[1]) if match else 0

"""What readers see in the table of requests: rows of a range of request offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from infra.ports import TableReader
from infra.up.books import Books, in_words
from schemas import tables
from schemas.telemetry import Outcome

_RANGE = (
    "cluster_id = {cluster:String} AND topic_id = {topic:String} AND outcome = {outcome:String}"
    " AND offset >= arrayElement({starts:Array(UInt64)}, partition + 1)"
    " AND offset < arrayElement({ends:Array(UInt64)}, partition + 1)"
)


def count_answered(
    reader: TableReader, cluster_id: str, topic_id: str, starts: Mapping[int, int], ends: Mapping[int, int]
) -> dict[int, int]:
    """Rows with outcome answered by partition, of offsets from `starts` on and below `ends`.

    Raises as `TableReader.query`.
    """
    # An array without the partition gives 0 as its end: none of its rows count.
    count = max([*starts, *ends], default=-1) + 1
    _, rows = reader.query(
        f"SELECT partition, count() FROM {tables.REQUESTS.view} WHERE {_RANGE} GROUP BY partition",
        {
            "cluster": cluster_id,
            "topic": topic_id,
            "outcome": Outcome.ANSWERED.value,
            "starts": [starts.get(number, 0) for number in range(count)],
            "ends": [ends.get(number, 0) for number in range(count)],
        },
    )
    return {int(partition): int(number) for partition, number in rows}


def missing_offsets(
    reader: TableReader, cluster_id: str, topic_id: str, partition: int, start: int, end: int, limit: int = 5
) -> Sequence[int]:
    """The first offsets of a partition's range that the table has no row for. Raises as `TableReader.query`."""
    _, rows = reader.query(
        "SELECT number FROM numbers({start:UInt64}, {count:UInt64}) WHERE number NOT IN ("
        f"SELECT offset FROM {tables.REQUESTS.view} WHERE cluster_id = {{cluster:String}}"
        " AND topic_id = {topic:String} AND partition = {partition:UInt32}) ORDER BY number LIMIT {limit:UInt32}",
        {
            "start": start,
            "count": max(0, end - start),
            "cluster": cluster_id,
            "topic": topic_id,
            "partition": partition,
            "limit": limit,
        },
    )
    return [int(row[0]) for row in rows]


def table_differences(
    reader: TableReader, books: Books, told: Mapping[int, int], ends: Mapping[int, int], limit: int = 5
) -> list[str]:
    """Partitions where readers see another number of answers than telemetry told, with the first missing offsets.

    `told`: answered rows by telemetry, by partition. Raises as `TableReader.query`.
    """
    seen = count_answered(reader, books.cluster_id, books.topic_id, books.starts, ends)
    found = []
    for partition, start in sorted(books.starts.items()):
        rows, expected = seen.get(partition, 0), told.get(partition, 0)
        if rows == expected:
            continue
        end = ends.get(partition, start)
        missing = missing_offsets(reader, books.cluster_id, books.topic_id, partition, start, end, limit)
        offsets = f"; no row for {in_words([(one, one + 1) for one in missing], limit)}" if missing else ""
        found.append(f"partition {partition}: {expected} answers by telemetry, {rows} in the table{offsets}")
    return found

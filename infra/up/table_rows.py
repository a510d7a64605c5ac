"""What readers see in the table of requests: rows of a range of request offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from infra.ports import TableReader
from infra.up.books import Books
from infra.up.outcomes import OUTCOMES
from infra.up.ranges import in_words
from schemas import tables

_RANGE = (
    "cluster_id = {cluster:String} AND topic_id = {topic:String}"
    " AND offset >= arrayElement({starts:Array(UInt64)}, partition + 1)"
    " AND offset < arrayElement({ends:Array(UInt64)}, partition + 1)"
)


def count_rows(
    reader: TableReader, cluster_id: str, topic_id: str, starts: Mapping[int, int], ends: Mapping[int, int]
) -> dict[int, dict[str, int]]:
    """Rows by partition and outcome, of offsets from `starts` on and below `ends`. Raises as `TableReader.query`."""
    # An array without the partition gives 0 as its end: none of its rows count.
    count = max([*starts, *ends], default=-1) + 1
    _, rows = reader.query(
        f"SELECT partition, outcome, count() FROM {tables.REQUESTS.view} WHERE {_RANGE} GROUP BY partition, outcome",
        {
            "cluster": cluster_id,
            "topic": topic_id,
            "starts": [starts.get(number, 0) for number in range(count)],
            "ends": [ends.get(number, 0) for number in range(count)],
        },
    )
    found: dict[int, dict[str, int]] = {}
    for partition, outcome, number in rows:
        found.setdefault(int(partition), {})[str(outcome)] = int(number)
    return found


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


def table_differences(reader: TableReader, books: Books, ends: Mapping[int, int], limit: int = 5) -> list[str]:
    """Partitions where readers see another number of rows of some outcome than telemetry told, with the first offsets
    that have none. Raises as `TableReader.query`."""
    seen, expected = count_rows(reader, books.cluster_id, books.topic_id, books.starts, ends), books.told()
    found = []
    for partition, start in sorted(books.starts.items()):
        rows, told = seen.get(partition, {}), expected.get(partition, {})
        unlike = [name for name in OUTCOMES if rows.get(name, 0) != told.get(name, 0)]
        if not unlike:
            continue
        end = ends.get(partition, start)
        missing = missing_offsets(reader, books.cluster_id, books.topic_id, partition, start, end, limit)
        offsets = f"; no row for {in_words([(one, one + 1) for one in missing], limit)}" if missing else ""
        counts = ", ".join(f"{told.get(n, 0):,} {n} by telemetry, {rows.get(n, 0):,} in the table" for n in unlike)
        found.append(f"partition {partition}: {counts}{offsets}")
    return found

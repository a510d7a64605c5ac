"""Reads past a record that aiokafka cannot hand over, with the other client: a header's name that is not UTF-8.

aiokafka raises on every fetch that holds such a record, and never moves past it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from infra.kafka import KafkaTail
from infra.ports import Record
from infra.settings import KafkaSettings

RECORDS_MAX = 500
FIRST_SECONDS = 5.0
"""Longest wait for the first record; at least one is there, or aiokafka had not raised."""
QUIET_SECONDS = 0.3
"""The detour ends when nothing more came for so long."""


def read_detour(settings: KafkaSettings, starts: Mapping[tuple[str, int], int]) -> list[Record]:
    """Up to RECORDS_MAX records of partitions from given offsets, in order. Blocks for seconds; raises RetryLater."""
    tail = KafkaTail(settings, [], start=starts, client_id="inferwatch-detour")
    found: list[Record] = []
    deadline = time.monotonic() + FIRST_SECONDS
    try:
        while len(found) < RECORDS_MAX and time.monotonic() < deadline:
            came = tail.poll(RECORDS_MAX - len(found), QUIET_SECONDS)
            if found and not came:
                break
            found.extend(came)
    finally:
        tail.close()
    return found

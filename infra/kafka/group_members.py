"""What a broker says of a consumer group's members, decoded.

The members' assignments are bytes of Kafka's consumer protocol (kafka.apache.org/protocol, ConsumerProtocolAssignment).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

REBALANCING = frozenset({"PreparingRebalance", "CompletingRebalance"})
"""States of a group in which partitions change hands."""


@dataclass(frozen=True, slots=True)
class GroupSeen:
    """A consumer group as it is now: partitions by member, and members' client ids by the same key."""

    is_rebalancing: bool
    client_ids: Mapping[str, str]
    assignments: Mapping[str, frozenset[tuple[str, int]]]


def assigned(raw: bytes) -> frozenset[tuple[str, int]]:
    """(topic, partition) of an assignment; none of an empty one, as members have while the group rebalances.

    Raises ValueError when it is not one.
    """
    if not raw:
        return frozenset()
    try:
        _, topics = struct.unpack_from(">hi", raw)
        at, found = 6, set()
        for _ in range(topics):
            (length,) = struct.unpack_from(">h", raw, at)
            topic = raw[at + 2 : at + 2 + length].decode()
            (count,) = struct.unpack_from(">i", raw, at + 2 + length)
            at += 6 + length
            found |= {(topic, partition) for partition in struct.unpack_from(f">{count}i", raw, at)}
            at += 4 * count
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"not an assignment of the consumer protocol: {error}") from None
    return frozenset(found)

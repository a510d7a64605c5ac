"""Which partition a request goes to: Kafka's own choice for keys (murmur2), turns of a few for the rest. Pure.

Chosen here and not in the client library, so that a sent request knows its whole identity when it is delivered.
"""

from __future__ import annotations

_M, _MASK = 0x5BD1E995, 0xFFFFFFFF
TURN_RECORDS = 16
"""Keyless records in a row for one partition: enough to fill a batch, few enough to spread at once."""


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash, seed 0x9747b28c, as Kafka's Java client computes it; unsigned."""
    length = len(data)
    h = (0x9747B28C ^ length) & _MASK
    whole = length & ~3
    for start in range(0, whole, 4):
        k = (int.from_bytes(data[start : start + 4], "little") * _M) & _MASK
        k = ((k ^ (k >> 24)) * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    if length & 3:
        h = ((h ^ int.from_bytes(data[whole:], "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: the same as `murmur2_random` of librdkafka and the Java client choose."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def partition_of_turn(number: int, partitions: int) -> int:
    """The partition of the `number`-th keyless record: partitions take turns of `TURN_RECORDS`."""
    return number // TURN_RECORDS % partitions

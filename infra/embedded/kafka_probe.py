"""Asks a broker over its own protocol whether consumer groups can be used: the last thing to be ready after a start.

Enough of Kafka's wire format for two requests, so that the process which minds the broker needs no client library.
"""

from __future__ import annotations

import socket
import struct

DESCRIBE_GROUPS, FIND_COORDINATOR = 15, 10
CLIENT_ID = b"inferwatch-probe"
# Names that differ in the last digit alone have consecutive Java hash codes: as many of them as the offsets
# topic has partitions reach each one.
GROUP = "inferwatch-probe-{}"


def groups_are_ready(port: int, offsets_partitions: int, timeout_s: float) -> bool:
    """Whether the broker on 127.0.0.1 answers for consumer groups of every partition of the offsets topic.

    The first call makes a fresh broker create that topic. False also when it does not answer within `timeout_s`
    seconds, or not in Kafka's format.
    """
    if not 1 <= offsets_partitions <= 10:
        raise ValueError(f"offsets_partitions {offsets_partitions}: from 1 to 10, one digit each")
    groups = [GROUP.format(digit).encode() for digit in range(offsets_partitions)]
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
            found = _ask(connection, FIND_COORDINATOR, 1, _string(groups[0]) + b"\x00")
            if struct.unpack_from(">h", found, 4)[0] != 0:  # after the throttle time
                return False
            for group in groups:
                described = _ask(connection, DESCRIBE_GROUPS, 0, struct.pack(">i", 1) + _string(group))
                if struct.unpack_from(">ih", described)[1] != 0:  # after the count of groups
                    return False
    except (OSError, struct.error, ValueError):
        return False
    return True


def _ask(connection: socket.socket, api_key: int, api_version: int, body: bytes) -> bytes:
    header = struct.pack(">hhi", api_key, api_version, 1) + _string(CLIENT_ID)
    connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
    (size,) = struct.unpack(">i", _receive(connection, 4))
    if not 4 <= size <= 65_536:
        raise ValueError(f"an answer of {size} bytes")
    return _receive(connection, size)[4:]  # without the correlation id


def _receive(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise ConnectionError("closed")
        parts += part
    return bytes(parts)


def _string(text: bytes) -> bytes:
    return struct.pack(">h", len(text)) + text

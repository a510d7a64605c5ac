import socket
import struct

import pytest

from infra.embedded.kafka_config import OFFSETS_PARTITIONS
from infra.embedded.kafka_probe import GROUP, groups_are_ready


class Broker:
    """Answers each request with the next error code, as Kafka would write it."""

    def __init__(self, codes):
        self.codes = list(codes)
        self.requests = []
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        return None

    def sendall(self, data):
        (size,) = struct.unpack_from(">i", data)
        assert size == len(data) - 4
        key, _, correlation = struct.unpack_from(">hhi", data, 4)
        self.requests.append(data)
        code = self.codes.pop(0) if self.codes else None
        if code is None:
            return
        # FindCoordinator v1: throttle time, error. DescribeGroups v0: count of groups, error.
        first = 0 if key == 10 else 1
        body = struct.pack(">iih", correlation, first, code) + b"\x00" * 20
        self.pending += struct.pack(">i", len(body)) + body

    def recv(self, size):
        part, self.pending = self.pending[: min(size, 3)], self.pending[min(size, 3) :]
        return part


@pytest.fixture
def broker(monkeypatch):
    def connect(codes):
        answering = Broker(codes)
        monkeypatch.setattr(socket, "create_connection", lambda address, timeout: answering)
        return answering

    return connect


def test_ready_when_the_coordinator_is_known_and_every_partition_answers(broker):
    answering = broker([0] * 9)
    assert groups_are_ready(1, 8, 1.0)
    assert len(answering.requests) == 9


@pytest.mark.parametrize(
    "codes",
    [
        pytest.param([15], id="no coordinator yet"),
        pytest.param([0, 14], id="coordinator is loading"),
        pytest.param([0] * 8 + [16], id="last partition has no coordinator"),
        pytest.param([], id="connection closed"),
        pytest.param([0, 0], id="closed half-way"),
    ],
)
def test_not_ready_before(broker, codes):
    broker(codes)
    assert not groups_are_ready(1, 8, 1.0)


def test_nobody_listens(monkeypatch):
    def refuse(address, timeout):
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert not groups_are_ready(1, 8, 1.0)


def test_the_groups_reach_every_partition():
    def java_hash(text):
        value = 0
        for char in text:
            value = (31 * value + ord(char)) & 0xFFFFFFFF
        return value - (1 << 32) if value >= 1 << 31 else value

    partitions = {abs(java_hash(GROUP.format(digit))) % OFFSETS_PARTITIONS for digit in range(OFFSETS_PARTITIONS)}
    assert partitions == set(range(OFFSETS_PARTITIONS))

"""Assignments of Kafka's consumer protocol."""

import struct

import pytest

from infra.kafka.group_members import assigned


def written(topics, user_data=b""):
    body = struct.pack(">hi", 1, len(topics))
    for topic, partitions in topics.items():
        name = topic.encode()
        body += struct.pack(f">h{len(name)}si{len(partitions)}i", len(name), name, len(partitions), *partitions)
    return body + struct.pack(">i", len(user_data)) + user_data


def test_topics_and_partitions_are_read():
    raw = written({"a": [0, 3], "b-é": [], "c": [7]}, b"whatever an assignor adds")
    assert assigned(raw) == {("a", 0), ("a", 3), ("c", 7)}
    assert assigned(written({})) == frozenset()
    assert assigned(b"") == frozenset()


@pytest.mark.parametrize("kept", range(1, 12))
def test_what_is_cut_is_refused(kept):
    with pytest.raises(ValueError, match="consumer protocol"):
        assigned(written({"abc": [1]})[:kept])

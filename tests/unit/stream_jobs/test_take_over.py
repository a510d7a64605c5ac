"""What a stage starts with: its state, or nothing, and then what the outside knows of it."""

from types import SimpleNamespace

import pytest

from infra.settings import KafkaSettings
from stream_jobs.partition_runner import StageSpec, restored
from stream_jobs.request_log import AnyRequests
from stream_jobs.score_specs import score_specs
from stream_jobs.settings import JobSettings
from stream_jobs.state_log import PartitionState
from tests.fakes import FakeBroker, FakeClock


class Stage:
    """Holds one page; refuses to restore another one."""

    def __init__(self):
        self.page, self.recovered, self.lost = b"good", False, ""

    def restore(self, pages, next_offset):
        self.next_offset = next_offset
        if pages not in ({}, {"page": b"good"}, {"page": b"worn"}):
            raise ValueError("not good")
        return ["a part"] if pages == {"page": b"worn"} else ()

    def tell_lost(self, reason):
        self.lost = reason

    def all_pages(self):
        return {"page": self.page}

    def mark_clean(self):
        pass


class Store:
    """A StateStore on a FakeBroker."""

    def __init__(self):
        self.broker = FakeBroker()

    def append(self, partition, records):
        return [self.broker.append("state", value, key=key, partition=partition).offset for key, value in records]

    def read(self, partition, start, through):
        yield from self.broker.records["state", partition][start : through + 1]


def started(store, owner, digest="d", page=b"good"):
    """The stage that `owner` takes over; it leaves `page` behind."""

    def new_state(partition):
        return PartitionState(store, partition, owner=owner, source="log", digest=digest)

    def recover(stage, partition):
        stage.recovered = True

    spec = StageSpec("in", "log", digest, lambda partition: Stage(), new_state, recover=recover)
    stage = restored(spec, 0, new_state(0), 7)
    stage.page = page
    state = new_state(0)
    state.take_over()
    state.write_all(stage.all_pages(), 9)
    return stage


def test_a_stage_without_its_state_is_told_what_the_outside_knows():
    store = Store()
    first = started(store, "a")
    assert (first.recovered, first.lost) == (True, "")
    assert not started(store, "b", page=b"bad").recovered
    broken = started(store, "c")
    assert (broken.recovered, broken.next_offset, broken.lost) == (
        True,
        9,
        "all is learnt anew: it cannot be read: not good",
    )
    assert not started(store, "d", page=b"worn").recovered
    worn = started(store, "e")
    assert (worn.recovered, worn.next_offset, worn.lost) == (True, 9, "")
    other = started(store, "f", digest="d2")
    assert (other.recovered, other.next_offset) == (True, 9)
    assert other.lost == "all is learnt anew: it is of another configuration: d, not d2"


@pytest.mark.parametrize("seconds", [10, 60])
def test_the_state_outlives_a_change_of_the_length_of_windows_but_not_of_the_partitions(seconds):
    def specs(partitions):
        cluster = SimpleNamespace(cluster_id="c", topic_id=lambda topic: topic, partitions=lambda topic: partitions)
        kafka = KafkaSettings(bootstrap_servers="127.0.0.1:9")
        settings = JobSettings(window_seconds=seconds)
        found = score_specs(settings, kafka, cluster, None, FakeClock(), AnyRequests())
        return {topic: spec.digest for topic, spec in found.items()}

    assert specs(6) == {"inference.telemetry": "all", "inference.windows": "of 6 partitions"}
    assert specs(12) == {"inference.telemetry": "all", "inference.windows": "of 12 partitions"}

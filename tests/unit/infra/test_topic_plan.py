"""Provisioning decides purely: what to make, what to change, what would lose data."""

from dataclasses import replace

import pytest

from infra.settings import StackSettings
from infra.topic_plan import (
    AddPartitions,
    AlterConfig,
    CreateTopic,
    ExistingTopic,
    ProvisionRefused,
    apply_plan,
    plan,
    wanted_config,
)
from schemas import topics

SETTINGS = StackSettings(topic_partitions=4, topic_retention_factor=2.0)


class Cluster:
    """A TopicAdmin in memory."""

    def __init__(self):
        self.topics = {}
        self.carried_out = []

    def existing(self, names):
        return {name: self.topics[name] for name in names if name in self.topics}

    def carry_out(self, change):
        self.carried_out.append(change)
        if isinstance(change, CreateTopic):
            self.topics[change.topic.name] = ExistingTopic(change.partitions, change.config)
        elif isinstance(change, AddPartitions):
            old = self.topics[change.topic.name]
            assert change.before == old.partitions < change.partitions
            self.topics[change.topic.name] = replace(old, partitions=change.partitions)
        else:
            old = self.topics[change.topic.name]
            new = {name: pair[1] for name, pair in change.changes.items()}
            self.topics[change.topic.name] = replace(old, config={**old.config, **new})


def test_everything_is_made_once():
    cluster, said = Cluster(), []
    assert apply_plan(cluster, topics.DECLARED, SETTINGS, say=said.append) == len(topics.DECLARED) == len(said)
    assert cluster.topics["inference.requests"].partitions == 4
    assert cluster.topics["inference.requests.dead-letters"].partitions == 1
    assert cluster.topics["inference.requests"].config["retention.bytes"] == str(topics.REQUESTS.retention_bytes * 2)
    assert apply_plan(cluster, topics.DECLARED, SETTINGS, say=said.append) == 0


def test_a_dry_run_shows_and_changes_nothing():
    cluster, said = Cluster(), []
    assert apply_plan(cluster, topics.DECLARED, SETTINGS, say=said.append, dry_run=True) == len(topics.DECLARED)
    assert not cluster.topics
    assert all(line.startswith("would create") for line in said)


@pytest.mark.parametrize(
    ("name", "on_cluster", "loses"),
    [
        ("retention.ms", str(topics.REQUESTS.retention_ms * 10), True),
        ("retention.ms", "-1", True),
        ("retention.ms", "1000", False),
        ("retention.bytes", "1", False),
        ("cleanup.policy", "compact", True),
        ("max.message.bytes", "9999999", True),
        ("segment.ms", "1", False),
    ],
)
def test_a_change_that_loses_data_is_refused(name, on_cluster, loses):
    cluster = Cluster()
    config = wanted_config(topics.REQUESTS, SETTINGS) | {name: on_cluster}
    cluster.topics["inference.requests"] = ExistingTopic(4, config)
    changes, remarks = plan([topics.REQUESTS], cluster.topics, SETTINGS)
    assert [type(change) for change in changes] == [AlterConfig]
    assert bool(changes[0].losing) is loses
    assert not remarks
    if loses:
        with pytest.raises(ProvisionRefused, match="--allow-data-loss"):
            apply_plan(cluster, [topics.REQUESTS], SETTINGS, say=lambda text: None)
        assert not cluster.carried_out
    assert apply_plan(cluster, [topics.REQUESTS], SETTINGS, say=lambda text: None, allow_data_loss=True) == 1
    assert plan([topics.REQUESTS], cluster.topics, SETTINGS) == ([], [])


def test_partitions_are_never_changed_behind_the_users_back():
    existing = {"alerts": ExistingTopic(9, wanted_config(topics.ALERTS, SETTINGS))}
    changes, remarks = plan([topics.ALERTS], existing, SETTINGS)
    assert not changes
    assert "9 partitions" in remarks[0]


def test_what_lies_by_partition_number_follows_its_source_and_what_nobody_used_yet_may_grow():
    cluster, said = Cluster(), []
    apply_plan(cluster, topics.DECLARED, SETTINGS, say=said.append)
    for name in ("inference.telemetry", "inference.windows"):
        cluster.topics[name] = replace(cluster.topics[name], partitions=12)  # somebody else's tool
    apply_plan(cluster, topics.DECLARED, SETTINGS, say=said.append)
    partitions = {name: found.partitions for name, found in cluster.topics.items()}
    assert partitions["jobs.score.requests.state"] == partitions["jobs.score.windows.state"] == 12
    assert partitions["inference.requests"] == partitions["inference.predictions"] == partitions["alerts"] == 4
    assert "add partitions to jobs.score.windows.state: 4 -> 12" in said
    said.clear()
    cluster.topics["inference.requests"] = replace(cluster.topics["inference.requests"], unused=True)
    apply_plan(cluster, topics.DECLARED, replace_setting(topic_partitions=16), say=said.append)
    partitions = {name: found.partitions for name, found in cluster.topics.items()}
    assert {partitions[f"inference.{name}"] for name in ("requests", "predictions", "telemetry")} == {16}
    assert (partitions["inference.windows"], partitions["alerts"]) == (12, 4)
    assert partitions["jobs.score.requests.state"] == 16
    assert sum("left as it is" in line for line in said) == 4
    assert apply_plan(cluster, topics.DECLARED, replace_setting(topic_partitions=16), say=lambda text: None) == 0


def replace_setting(**values):
    return SETTINGS.model_copy(update=values)


def test_every_topic_is_bounded_by_age_and_size_or_by_its_keys():
    for topic in topics.DECLARED:
        if topic.cleanup is topics.Cleanup.COMPACT:
            assert topic.key
        else:
            assert topic.retention_ms
            assert topic.retention_bytes


def test_topics_that_a_worker_or_job_works_on_have_dead_letters_and_no_others():
    by_name = {topic.name: topic for topic in topics.DECLARED}
    letters = {name for name in by_name if name.endswith(".dead-letters")}
    processed = {topic.name for topic in topics.DECLARED if topic.processed}
    control = {"control.drills", "control.deployments"}
    assert processed == {"inference.requests", "inference.telemetry", "inference.windows"} | control
    assert letters == {f"{name}.dead-letters" for name in processed}
    for name in processed:
        assert by_name[f"{name}.dead-letters"].message_bytes_max == by_name[name].message_bytes_max + 65_536

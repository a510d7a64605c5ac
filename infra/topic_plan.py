"""Brings the topics to what `schemas.topics` declares: idempotent, shown before, never losing data unasked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from infra.settings import StackSettings
from schemas.topics import Cleanup, Topic


class ProvisionRefused(Exception):
    """A topic cannot be brought there without losing data; the text says why and the ways out."""


@dataclass(frozen=True, slots=True)
class ExistingTopic:
    """What the cluster has: partitions, the settings that are declared here, whether nothing was ever put there."""

    partitions: int
    config: Mapping[str, str]
    unused: bool = False


@dataclass(frozen=True, slots=True)
class CreateTopic:
    """Make a topic."""

    topic: Topic
    partitions: int
    replicas: int
    config: Mapping[str, str]

    def __str__(self) -> str:
        return f"create {self.topic.name}: {self.partitions} partitions, {self.replicas} replicas, " + ", ".join(
            f"{name}={value}" for name, value in self.config.items()
        )


@dataclass(frozen=True, slots=True)
class AlterConfig:
    """Change a topic's settings. `losing` says what data that would delete; empty when none."""

    topic: Topic
    changes: Mapping[str, tuple[str, str]]
    losing: str = ""

    def __str__(self) -> str:
        return f"alter {self.topic.name}: " + ", ".join(
            f"{name} {old} -> {new}" for name, (old, new) in self.changes.items()
        )


@dataclass(frozen=True, slots=True)
class AddPartitions:
    """Give a topic more partitions, where that moves nothing."""

    topic: Topic
    before: int
    partitions: int

    def __str__(self) -> str:
        return f"add partitions to {self.topic.name}: {self.before} -> {self.partitions}"


Change = CreateTopic | AlterConfig | AddPartitions


class TopicAdmin(Protocol):
    """What provisioning needs of a cluster."""

    def existing(self, names: Sequence[str]) -> dict[str, ExistingTopic]:
        """The topics that exist, by name. Raises RetryLater."""

    def carry_out(self, change: Change) -> None:
        """Make one change and wait until it holds. Making a topic that exists is no error. Raises RetryLater."""


def wanted_config(topic: Topic, settings: StackSettings) -> dict[str, str]:
    """The declared settings, with the size limit multiplied as the operator asks."""
    config = topic.config()
    if topic.retention_bytes is not None:
        config["retention.bytes"] = str(int(topic.retention_bytes * settings.topic_retention_factor))
    return config


def plan(
    declared: Sequence[Topic], existing: Mapping[str, ExistingTopic], settings: StackSettings
) -> tuple[list[Change], list[str]]:
    """What to change, and remarks on what is left alone. Pure."""
    changes: list[Change] = []
    remarks: list[str] = []
    counts: dict[str, int] = {}
    for topic in declared:
        config = wanted_config(topic, settings)
        partitions = topic.partitions or counts.get(topic.partitions_of or "", settings.topic_partitions)
        found = existing.get(topic.name)
        counts[topic.name] = partitions if found is None else found.partitions
        if found is None:
            changes.append(CreateTopic(topic, partitions, settings.topic_replication, config))
            continue
        if found.partitions < partitions and (topic.partitions_of or found.unused):
            changes.append(AddPartitions(topic, found.partitions, partitions))
            counts[topic.name] = partitions
        elif found.partitions != partitions and not topic.partitions_of:
            remarks.append(
                f"{topic.name} has {found.partitions} partitions and {partitions} are declared: left as it is, because "
                "keys would move to other partitions. To change it, make a new cluster or topic and move to it."
            )
        differing = {
            name: (found.config.get(name, ""), value)
            for name, value in config.items()
            if found.config.get(name) != value
        }
        if differing:
            changes.append(AlterConfig(topic, differing, _loss(differing)))
    return changes, remarks


def _loss(changes: Mapping[str, tuple[str, str]]) -> str:
    reasons = []
    for name in ("retention.ms", "retention.bytes"):
        if name in changes:
            old, new = (_limit(text) for text in changes[name])
            if new < old:
                reasons.append(f"{name} {changes[name][0]} -> {changes[name][1]} deletes what is older or beyond")
    if "cleanup.policy" in changes:
        old_policy, new_policy = changes["cleanup.policy"]
        if Cleanup.COMPACT.value in new_policy and Cleanup.COMPACT.value not in old_policy:
            reasons.append("compaction keeps only each key's last record")
        if Cleanup.DELETE.value in new_policy and Cleanup.DELETE.value not in old_policy:
            reasons.append("records are deleted by age and size")
    if "max.message.bytes" in changes and int(changes["max.message.bytes"][1]) < int(
        changes["max.message.bytes"][0] or 0
    ):
        reasons.append("larger records would be refused from now on")
    return "; ".join(reasons)


def _limit(text: str) -> float:
    value = int(text) if text else -1
    return float("inf") if value < 0 else float(value)


def apply_plan(
    admin: TopicAdmin,
    declared: Sequence[Topic],
    settings: StackSettings,
    *,
    say: Callable[[str], None],
    dry_run: bool = False,
    allow_data_loss: bool = False,
) -> int:
    """Compare and change; returns how many changes were (or would be) made. Raises ProvisionRefused, RetryLater.

    Nothing is changed when one of the changes would lose data and that was not allowed.
    """
    changes, remarks = plan(declared, admin.existing([topic.name for topic in declared]), settings)
    for remark in remarks:
        say(f"note: {remark}")
    losing = [change for change in changes if isinstance(change, AlterConfig) and change.losing]
    if losing and not allow_data_loss and not dry_run:
        raise ProvisionRefused(
            "\n".join(f"{change}\n  would lose data: {change.losing}" for change in losing)
            + "\nWays out: raise the declared limits, or pass --allow-data-loss. Nothing was changed."
        )
    for change in changes:
        warning = f"  (would lose data: {change.losing})" if isinstance(change, AlterConfig) and change.losing else ""
        say(f"{'would ' if dry_run else ''}{change}{warning}")
        if not dry_run:
            admin.carry_out(change)
    return len(changes)

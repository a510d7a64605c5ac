"""What a stage of the stream jobs is: a pure fold over one partition of a log, with its state in pages.

Stages decide; the shell (`partition_runner`, `barrier`, `sink`) stores, publishes, snapshots and commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from infra.columns import Column
from infra.ports import Record

PAGE_BYTES_MAX = 262_144
"""Largest state page, bytes. Above about 1 MB a record would not fit the state topic."""


class Limit(StrEnum):
    """Bounds at which a stage leaves something out. The values are a metric's labels."""

    WINDOW_SERIES = "window_series"
    ROW_MODELS = "row_models"
    KNOWN_SERIES = "known_series"
    LIVE_SERIES = "live_series"
    ACTIVE_SERIES = "active_series"
    OPEN_WINDOWS = "open_windows"
    OFFSET_HOLES = "offset_holes"
    REQUEST_TOPICS = "request_topics"
    ALERT_BUDGET = "alert_budget"
    DETECTOR_STATES = "detector_states"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event to publish. `partition` is None when the key decides."""

    topic: str
    value: bytes
    key: bytes | None = None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()


@dataclass(slots=True)
class Effects:
    """What applying a record asks of the outside: rows by table (equal-length columns) and events, in order.

    A function of the log alone: a replay gives the same rows and events, with the same ids.
    """

    rows: dict[str, dict[str, Column]] = field(default_factory=dict)
    events: list[Outgoing] = field(default_factory=list)
    late_series_dropped: int = 0
    """Partial series that came after their window was forgotten: they are in no row of a window."""
    limits: dict[Limit, int] = field(default_factory=dict)
    """How much each bound left out."""
    passed_over: str | None = None
    """The type of the record's event, when it is of a kind that a newer release made; None: it is not."""

    def limit(self, what: Limit, count: int) -> None:
        """A bound left so many out; 0: it was not reached."""
        if count:
            self.limits[what] = self.limits.get(what, 0) + count


class Stage(Protocol):
    """One partition's fold. Called by one thread at a time; never blocks; reads no clock, no environment."""

    next_offset: int
    """Everything below is inside the state. A record below it is ignored by the shell."""

    def apply(self, record: Record) -> Effects:
        """Fold one record in and move `next_offset` past it. Raises DecodeError for a record that cannot be used,
        with the state untouched; the shell then makes a dead letter and calls `skip`."""

    def skip(self, record: Record) -> Effects:
        """Move `next_offset` past a record that was dead-lettered; its append time still moves the watermark."""

    def dirty_pages(self) -> dict[str, bytes | None]:
        """Pages changed since the last `mark_clean`; None for a page that is gone. Each at most PAGE_BYTES_MAX."""

    def all_pages(self) -> Mapping[str, bytes]:
        """The whole state, valid until the next `apply`; not all of it need be in memory at the same time."""

    def mark_clean(self) -> None:
        """The pages last given by `dirty_pages` or `all_pages` are durable. Called before the next `apply`."""

    def restore(self, pages: Mapping[str, bytes], next_offset: int) -> Sequence[str]:
        """Take over a state. Returns what of it was broken, cost itself alone and begins anew, in words.

        Raises ValueError when a page is broken without which nothing can go on; the stage is then as new, at
        `next_offset`."""

    def tell_lost(self, reason: str) -> None:
        """A state was there and could not be taken over: say so with the next window. Part of the state till then."""

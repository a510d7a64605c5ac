"""What the two logs show of one load step: requests and answers joined by identity, times from the broker. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.figures import quantile
from benchmarks.log_span import Answer

Position = tuple[int, int]
"""Partition and offset of a request."""


@dataclass(frozen=True, slots=True)
class StepMeasure:
    """Figures of a step's measured part; times in milliseconds from a request's append to its answer's.

    `window_ms` is the log's time of the first and the last measured request; `kept_up_share` is how many answers came
    in it over how many requests did. `throughput_per_second` runs on to the last answer, so that a server that fell
    behind shows what it can do. A request without an answer counts with the time that it has waited so far.
    """

    window_ms: tuple[int, int]
    sent: int
    sent_per_second: float
    kept_up_share: float
    throughput_per_second: float
    outcomes: Mapping[str, int]
    unanswered: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    owed_at_end: int


@dataclass
class StepLog:
    """Collects one step's requests and answers, in whatever order the logs are read. Used by one thread."""

    asked: dict[Position, tuple[int, int]] = field(default_factory=dict)
    """Number of the request and its append time."""
    answers: dict[Position, Answer] = field(default_factory=dict)
    """The first answer of a request; of other people's requests too, until the step ends."""
    matched: int = 0

    def note_request(self, position: Position, number: int, appended_ms: int) -> None:
        """One of our own requests is on the log."""
        self.asked[position] = number, appended_ms
        self.matched += position in self.answers

    def note_answer(self, answer: Answer) -> None:
        """An answer is on the log. Only the first one of a request counts."""
        position = answer.partition, answer.offset
        if position not in self.answers:
            self.answers[position] = answer
            self.matched += position in self.asked

    @property
    def owed(self) -> int:
        """Requests seen and not answered yet."""
        return len(self.asked) - self.matched

    def measure(self, first_number: int) -> StepMeasure:
        """Figures of the requests numbered `first_number` and above; those before were the warm-up. Raises ValueError
        with fewer than two."""
        measured = {position: when for position, (number, when) in self.asked.items() if number >= first_number}
        if len(measured) < 2:
            raise ValueError(f"{len(measured)} requests were measured: a longer step or a higher rate is needed")
        begin, end = min(measured.values()), max(measured.values())
        ours = [answer for position, answer in self.answers.items() if position in self.asked]
        latest = max([end, *(answer.appended_ms for answer in ours)])
        waited, outcomes = [], Counter[str]()
        for position, when in measured.items():
            answer = self.answers.get(position)
            waited.append((latest if answer is None else answer.appended_ms) - when)
            outcomes["unanswered" if answer is None else answer.outcome] += 1
        seconds = max(1, end - begin) / 1000
        times = np.array([answer.appended_ms for answer in ours], dtype=np.int64)
        appended = np.array([when for _, when in self.asked.values()], dtype=np.int64)
        return StepMeasure(
            window_ms=(begin, end),
            sent=len(measured),
            sent_per_second=(len(measured) - 1) / seconds,
            kept_up_share=int(((times > begin) & (times <= end)).sum()) / max(1, int((appended > begin).sum())),
            throughput_per_second=int((times > begin).sum()) * 1000 / max(1, latest - begin),
            outcomes={name: outcomes[name] for name in ("answered", "failed", "shed")},
            unanswered=outcomes["unanswered"],
            p50_ms=quantile(waited, 0.5),
            p95_ms=quantile(waited, 0.95),
            p99_ms=quantile(waited, 0.99),
            max_ms=quantile(waited, 1.0),
            owed_at_end=int((appended <= end).sum() - (times <= end).sum()),
        )

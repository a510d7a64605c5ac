"""What to send and when: real queries at the arrival times of a real trace, seeded, endless. Pure.

The trace is replayed in order, again and again, its times divided by a speed or scaled to a mean rate. Scaling makes
everything shorter alike: bursts keep their height over the mean and last as much shorter as the rate is higher. Over
one second of the sample's own time the peak is 2.5 times the mean, over 10 seconds 1.4 times, over a minute 1.2 times.
`smooth` lets time run between the trace's (0) and an even one (1), with the same count and end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from producers.broken_requests import BrokenKind
from producers.sample_data import Arrival, Replay
from schemas.requests import InferenceRequested

TEXTS_MAX = 8
TOKENS_PER_TEXT = 500
"""A recommendation asks for one text more for each 500 tokens that its arrival had in the trace, up to 8."""


@dataclass(frozen=True, slots=True)
class TrafficPolicy:
    """How the replay is changed. `rate` (mean requests a second) wins over `speed` (1: as it happened)."""

    seed: int
    rate: float | None = None
    speed: float = 1.0
    smooth: float = 0.0
    broken_share: float = 0.01
    recommendation_share: float = 0.2
    users: int = 500

    def __post_init__(self) -> None:
        for name in ("smooth", "broken_share", "recommendation_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}: a share from 0 to 1")
        if not 0 < (self.speed if self.rate is None else self.rate) < 1e6 or self.users < 1:
            raise ValueError("rate and speed are above 0 and below 1,000,000; there is at least one user")


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request to send `due_seconds` after the start. `broken` says how it is broken; None: it is good."""

    number: int
    due_seconds: float
    key: str
    request: InferenceRequested
    broken: BrokenKind | None

    @property
    def text(self) -> str:
        """What it asks about: its first text."""
        first = self.request.inputs[0]
        return first if isinstance(first, str) else first.text or ""

    def request_id(self, seed: int) -> str:
        """The producer's name for it: the same in every run of the same seed."""
        return f"sim-{seed}-{self.number}"


def due_times(arrivals: Sequence[Arrival], policy: TrafficPolicy) -> Iterator[tuple[float, Arrival]]:
    """Endless (seconds after the start, arrival), never going back. The mean rate is exact over each round."""
    if len(arrivals) < 2 or arrivals[-1].offset_ms <= arrivals[0].offset_ms:
        raise ValueError("a trace has at least two arrivals at different times")
    count, first = len(arrivals), arrivals[0].offset_ms
    span = (arrivals[-1].offset_ms - first) / 1000
    round_seconds = span * count / (count - 1)  # one mean gap between the last and the first again
    scale = 1 / policy.speed if policy.rate is None else count / round_seconds / policy.rate
    start = 0.0
    while True:
        for index, arrival in enumerate(arrivals):
            even = index * round_seconds / count
            offset = (1 - policy.smooth) * (arrival.offset_ms - first) / 1000 + policy.smooth * even
            yield (start + offset) * scale, arrival
        start += round_seconds


def plan(replay: Replay, policy: TrafficPolicy) -> Iterator[PlannedRequest]:
    """Endless requests in the order they are due; the same for the same data and policy."""
    random = Random(policy.seed)  # seeded, and not for secrets
    if not replay.queries:
        raise ValueError("there are no queries")
    for number, (due, arrival) in enumerate(due_times(replay.arrivals, policy)):
        # Always the same draws for each request: another share changes which are broken and nothing else.
        user = random.randrange(policy.users)
        recommended = random.random() < policy.recommendation_share
        texts = [random.choice(replay.queries) for _ in range(TEXTS_MAX)]
        broken, kind = random.random() < policy.broken_share, random.choice(_KINDS)
        yield PlannedRequest(
            number,
            due,
            f"user-{user:04d}",
            _recommendation(texts, arrival) if recommended else InferenceRequested(input=texts[0], scenario="search"),
            kind if broken else None,
        )


_KINDS = tuple(BrokenKind)


def _recommendation(texts: Sequence[str], arrival: Arrival) -> InferenceRequested:
    count = min(TEXTS_MAX, 1 + arrival.input_tokens // TOKENS_PER_TEXT)
    return InferenceRequested(input=[*texts[:count]], scenario="recommendation")

"""What a request is on its way to its batch: asked, a draft, then ready to be computed or denied. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from inference_workers.batching.compute import Row
from inference_workers.batching.planner import Waiting
from inference_workers.deployments.routing import Route
from inference_workers.models.tokenise import Tokenised
from inference_workers.ports import Item, Place
from inference_workers.tasks.inputs import Part, Refused, Shed
from inference_workers.tasks.outputs import Wanted
from infra.ports import Record
from infra.progress import Receipt
from schemas.base import DecodeError
from schemas.predictions import ModelRef
from schemas.requests import ImageReference, InferenceRequested

AHEAD_MS_MAX = 86_400_000
"""How far a broker's clock may be ahead of ours. More is no time: dates of tables end in the year 2149."""


@dataclass(slots=True, eq=False)
class Asked:
    """A request that could be read: where it came from, who asks what, and the model that its scenario and key choose.

    Texts and headers are not kept: what waits holds no more than it needs. `request_id` is the producer's own name for
    the request, empty when it gave none.
    """

    receipt: Receipt
    identity: Place
    key: bytes | None
    appended_ms: int
    scenario: str
    wanted: Wanted
    request_id: str
    traceparent: str | None
    route: Route
    deadline_ms: int | None
    inputs: int
    input_bytes: int = 0
    """Of its texts; see `admit.measure`."""

    @property
    def model(self) -> ModelRef:
        """The model that was chosen."""
        return self.route.ref


@dataclass(slots=True, eq=False)
class Draft:
    """A request on its way to be `Ready`: its parts are read and tokenised, or it is refused."""

    asked: Asked
    request: InferenceRequested
    route: Route
    parts: list[Part]
    shadow: bool
    tokenised: list[Tokenised] = field(default_factory=list)
    tokenise_ms: float = 0.0
    reading_ms: float = 0.0
    """While at least one of its images was being read; known when all are, or one was refused, or it is too late."""
    script: int = 0
    refusal: Refused | None = None

    def names_images(self) -> bool:
        """Whether any part is an image that is not read yet."""
        return any(isinstance(part, ImageReference) for part in self.parts)


@dataclass(slots=True, eq=False)
class Ready:
    """A request that waits for its batch. `parts` are its items, or their rows where nothing is to be computed;
    `cached` of them were found in the cache. `shadow` requests are computed and answered by nobody. `size` in bytes.
    `tokenise_ms` is its preparation: tokenising its texts, and `reading_ms` of reading its images."""

    asked: Asked
    route: Route
    parts: list[Item | Row]
    tokens: int
    unknown_share: float
    truncated: bool
    cached: int
    tokenise_ms: float
    waiting: Waiting
    size: int
    shadow: bool = False
    script: int = 0
    """Writing system of its texts, see `scripts_of`."""
    reading_ms: float = 0.0

    @property
    def items(self) -> list[Item]:
        """What is still to be computed, in order."""
        return [part for part in self.parts if isinstance(part, Item)]

    def queue_ms(self, until_ms: int) -> float:
        """How long it had waited by then, since its append. While its images were read it was prepared: no waiting."""
        return until_ms - self.asked.appended_ms - self.reading_ms

    def is_late(self, at_ms: int) -> bool:
        """Whether its deadline had passed by then."""
        return self.asked.deadline_ms is not None and self.asked.deadline_ms < at_ms


@dataclass(frozen=True, slots=True)
class Unusable:
    """A record that cannot be used, and why."""

    record: Record
    receipt: Receipt
    identity: Place
    error: DecodeError


@dataclass(frozen=True, slots=True)
class Denied:
    """A request that could be read and is not computed: failed, or shed when it is over a limit. `reading_ms` see
    `Draft`."""

    asked: Asked
    refusal: Refused
    reading_ms: float = 0.0

    @property
    def is_shed(self) -> bool:
        """True when it asks for more than is allowed, or came too late."""
        return isinstance(self.refusal, Shed)


Admitted = Ready | Unusable | Denied


def append_time_ms(record: Record, now_ms: int) -> int:
    """The broker's append time; now, where a topic without LogAppendTime let a producer write what is no time."""
    return record.timestamp_ms if 0 < record.timestamp_ms <= now_ms + AHEAD_MS_MAX else now_ms

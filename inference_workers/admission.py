"""A record of the request topic becomes a request ready to be batched, or the reason why it cannot. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference_workers.batching import Waiting
from inference_workers.tokenise import Tokenised, Tokeniser
from infra.ports import Clock, Record
from infra.progress import Receipt
from schemas.base import KEY_BYTES_MAX, DecodeError, Envelope, Identity, Reason, decode
from schemas.requests import InferenceRequested, Task

KINDS = (InferenceRequested,)
AHEAD_MS_MAX = 86_400_000
"""How far a broker's clock may be ahead of ours. More is no time: dates of tables end in the year 2149."""


@dataclass(slots=True, eq=False)
class Ready:
    """A request that waits for its batch. Texts and headers are not kept: what waits holds no more than it needs.

    `request_id` is the producer's own name for the request, empty when it gave none; `size` is in bytes.
    """

    receipt: Receipt
    identity: Identity
    key: bytes | None
    appended_ms: int
    scenario: str
    task: Task
    request_id: str
    traceparent: str | None
    tokenised: list[Tokenised]
    tokenise_ms: float
    waiting: Waiting
    input_bytes: int
    size: int

    @property
    def tokens(self) -> int:
        """Tokens of all inputs, special ones included."""
        return sum(self.waiting.lengths)

    @property
    def truncated(self) -> bool:
        """True when an input was longer than what is read of it."""
        return any(one.truncated for one in self.tokenised)

    @property
    def unknown_share(self) -> float:
        """Share of tokens that the vocabulary does not know."""
        return sum(one.unknown for one in self.tokenised) / max(1, self.tokens)


@dataclass(frozen=True, slots=True)
class Unusable:
    """A record that cannot be used, and why."""

    record: Record
    receipt: Receipt
    identity: Identity
    error: DecodeError


@dataclass(slots=True)
class Admission:
    """Decodes and tokenises records, many at once."""

    tokeniser: Tokeniser
    clock: Clock

    def admit(self, records: Sequence[tuple[Record, Receipt, Identity]]) -> list[Ready | Unusable]:
        """One result for each record, in order."""
        decoded: list[Envelope[InferenceRequested] | DecodeError] = []
        texts: list[str] = []
        for record, _, _ in records:
            try:
                envelope = _decoded(record)
            except DecodeError as error:
                decoded.append(error)
            else:
                decoded.append(envelope)
                texts.extend(envelope.data.texts)
        start = self.clock.monotonic()
        tokenised = iter(self.tokeniser.tokenise(texts) if texts else ())
        each_ms = (self.clock.monotonic() - start) * 1000 / max(1, len(texts))
        now_ms = self.clock.now_ms()
        results: list[Ready | Unusable] = []
        for (record, receipt, identity), one in zip(records, decoded, strict=True):
            if isinstance(one, DecodeError):
                results.append(Unusable(record, receipt, identity, one))
            else:
                mine = [next(tokenised) for _ in one.data.texts]
                results.append(_ready(record, receipt, identity, one, mine, each_ms * len(mine), now_ms))
        return results


def append_time_ms(record: Record, now_ms: int) -> int:
    """The broker's append time; now, where a topic without LogAppendTime let a producer write what is no time."""
    return record.timestamp_ms if 0 < record.timestamp_ms <= now_ms + AHEAD_MS_MAX else now_ms


def _decoded(record: Record) -> Envelope[InferenceRequested]:
    key_bytes = len(record.key or b"")
    if key_bytes > KEY_BYTES_MAX:
        raise DecodeError(Reason.TOO_LARGE, f"a key of {key_bytes} bytes, at most {KEY_BYTES_MAX} are taken")
    return decode(record.headers, record.value, KINDS, plain=InferenceRequested)


def _ready(
    record: Record,
    receipt: Receipt,
    identity: Identity,
    envelope: Envelope[InferenceRequested],
    tokenised: list[Tokenised],
    tokenise_ms: float,
    now_ms: int,
) -> Ready:
    request = envelope.data
    appended_ms = append_time_ms(record, now_ms)
    deadline = None if request.timeout_ms is None else appended_ms + request.timeout_ms
    lengths = tuple(len(one.ids) for one in tokenised)
    return Ready(
        receipt=receipt,
        identity=identity,
        key=record.key,
        appended_ms=appended_ms,
        scenario=request.scenario,
        task=request.task,
        request_id=envelope.event_id or "",
        traceparent=envelope.traceparent,
        tokenised=tokenised,
        tokenise_ms=tokenise_ms,
        waiting=Waiting(lengths, now_ms, deadline),
        input_bytes=sum(len(text.encode()) for text in request.texts),
        size=600 + 40 * sum(lengths) + len(record.key or b""),
    )

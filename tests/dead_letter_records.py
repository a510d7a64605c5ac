"""Dead letters for tests, as they lie on their topics."""

from infra.ports import Record
from schemas.base import Reason
from schemas.dead_letters import DeadLetter


def buried(
    value=b"x",
    *,
    topic="inference.requests",
    partition=3,
    offset=17,
    reason=Reason.BAD_VALUE,
    detail="no",
    key=b"user",
    headers=(("ce_id", b"a"),),
    at=5,
    value_bytes_max=1_000,
    stage="worker",
):
    """The record of a dead letter as it lies on its topic."""
    letter = DeadLetter.of(
        topic=topic,
        partition=partition,
        offset=offset,
        stage=stage,
        reason=reason,
        detail=detail,
        key=key,
        value=value,
        headers=headers,
        value_bytes_max=value_bytes_max,
    )
    return Record(letter.dead_letter_topic, 0, at, 1_000 * at, letter.key, letter.value, tuple(letter.record_headers()))

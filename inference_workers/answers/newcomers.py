"""Partitions that came to this worker: which topic they are of, and which of their requests are answered already.

Their records wait until that is known. Used by the loop's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from inference_workers.answers.earlier import Earlier, EarlierAnswers, Wanted, none_earlier
from inference_workers.ports import Place
from infra.ports import Clock, Record, RetryLater
from infra.progress import Receipt
from schemas.telemetry import Outcome

LOG = logging.getLogger(__name__)
RETRY_SECONDS, SETTLE_SECONDS = 0.5, 0.02

IdentityOf = Callable[[str], tuple[str, str]]
"""Topic name to (cluster id, topic id); may raise RetryLater."""
Where = tuple[str, int]


class Newcomers:
    """What is asked once of each partition that was assigned."""

    def __init__(self, identity_of: IdentityOf, clock: Clock, earlier: EarlierAnswers = none_earlier) -> None:
        self._identity_of, self._clock, self._earlier_answers = identity_of, clock, earlier
        self._topics: dict[Where, tuple[str, str]] = {}
        self._unknown: dict[Where, Record] = {}
        """With the first record of each."""
        self._earlier: dict[Where, dict[int, Earlier]] = {}
        self._due = 0.0

    def assigned(self, partitions: Iterable[Where], waiting: Iterable[Record]) -> None:
        """Ask anew: the topic may have been made again, and others have worked on it. `waiting` records are held."""
        for where in partitions:
            self._topics.pop(where, None)
            self._earlier.pop(where, None)
        for record in waiting:
            self.saw(record)

    def dropped(self, partitions: Iterable[Where]) -> None:
        """Somebody else's now."""
        for where in partitions:
            self._unknown.pop(where, None)
            self._earlier.pop(where, None)

    def saw(self, record: Record) -> None:
        """A record came, in the order of its partition."""
        where = record.topic, record.partition
        if where not in self._topics:
            self._unknown.setdefault(where, record)

    def asks(self) -> bool:
        """Whether something is not known yet: no request is looked at until then."""
        return bool(self._unknown)

    def are_known(self, *, settled: bool) -> bool:
        """Ask what is not known yet. False while the cluster does not answer, and while answers of this worker's own,
        of partitions that it had before, are still on their way (not `settled`): they may be these requests' first."""
        if not self._unknown:
            return True
        if not self.may_ask():
            return False
        if not settled:
            self._due = self._clock.monotonic() + SETTLE_SECONDS
            return False
        try:
            for topic in {topic for topic, _ in self._unknown}:
                self._ask(topic)
        except RetryLater as error:
            LOG.warning("what the topic's partitions hold is not known yet: %s", error)
            self._due = self._clock.monotonic() + RETRY_SECONDS
            return False
        return True

    def may_ask(self) -> bool:
        """False for a moment after the cluster did not answer."""
        return self._clock.monotonic() >= self._due

    def _ask(self, topic: str) -> None:
        identity = self._identity_of(topic)
        firsts: Mapping[int, Record] = {number: one for (name, number), one in self._unknown.items() if name == topic}
        wanted = {number: Wanted(identity[1], one.offset, one.timestamp_ms) for number, one in firsts.items()}
        earlier = self._earlier_answers(wanted)
        for number in firsts:
            del self._unknown[topic, number]
            self._topics[topic, number] = identity
            if found := earlier.get(number):
                LOG.info("%s[%d]: %d requests are answered already", topic, number, len(found))
                self._earlier[topic, number] = dict(found)

    def place_of(self, record: Record) -> Place:
        """A record's identity, once all `are_known`."""
        return Place(*self._topics[record.topic, record.partition], record.partition, record.offset)

    def earlier(self, receipt: Receipt) -> Earlier | None:
        """A request's first answer, when there was one before this worker had it."""
        found = self._earlier.get((receipt.progress.topic, receipt.progress.partition))
        return None if found is None else found.get(receipt.offset)

    def was_answered(self, receipt: Receipt) -> bool:
        """Whether that was no failure, and it was not shed."""
        earlier = self.earlier(receipt)
        return earlier is not None and earlier.outcome is Outcome.ANSWERED

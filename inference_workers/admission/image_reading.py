"""Requests whose images are being read wait here, apart from all others, until theirs are there, refused or too late.

Pure but for the reads that it is given. Memory is bounded by bytes: reading goes on while there is room.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from inference_workers.admission.requests import Draft
from inference_workers.batching.compute import Row
from inference_workers.images.pool import ImageReads
from inference_workers.ports import Item
from inference_workers.tasks.inputs import Expired, Refused
from schemas.requests import ImageReference

SHADOWS_MAX, SHADOW_BYTES_MAX = 64, 8_388_608
"""Shadows that wait for images, and what is held of them until only the oldest reads on; more are not computed: nobody
waits for them. 8 MiB is what a lane keeps of shadows, too."""


@dataclass(slots=True, eq=False)
class _Reading:
    draft: Draft
    todo: deque[int]  # parts that no thread was given yet
    missing: int
    bytes_held: int = 0
    spans: list[tuple[float, float]] = field(default_factory=list)
    """From when to when each of its images was read."""

    def reading_ms(self) -> float:
        """While any of them was read; a read that is not done yet is not known of."""
        return 1000 * seconds_covered(self.spans)


@dataclass(slots=True)
class _Drafts:
    """By age. `held_bytes`: their texts, the vectors that they brought, and their images that are read."""

    by_number: dict[int, _Reading] = field(default_factory=dict)
    held_bytes: int = 0

    def have_more_to_read(self) -> bool:
        return any(one.todo for one in self.by_number.values())


@dataclass(slots=True)
class ImageReading:
    """Drafts by age. Used by the loop's thread; nothing blocks.

    Shadows wait apart: they count for nothing, and are read for only while no request that is owed an answer has
    images that no thread was given yet.
    """

    reads: ImageReads
    _owed: _Drafts = field(default_factory=_Drafts)
    _shadows: _Drafts = field(default_factory=_Drafts)
    _tickets: dict[int, tuple[int, int]] = field(default_factory=dict)  # of reads under way: number of draft, of part
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __len__(self) -> int:
        """Requests that wait for images, shadows too."""
        return len(self._owed.by_number) + len(self._shadows.by_number)

    @property
    def held_bytes(self) -> int:
        """What is held of the requests that are owed an answer."""
        return self._owed.held_bytes

    @property
    def shadow_bytes(self) -> int:
        """What is held of shadows."""
        return self._shadows.held_bytes

    def waiting(self) -> int:
        """Requests that wait for images and are owed an answer."""
        return len(self._owed.by_number)

    def first_appended_ms(self) -> list[int]:
        """When the oldest that is owed an answer was appended to its topic; empty without any."""
        return [one.draft.asked.appended_ms for one in itertools.islice(self._owed.by_number.values(), 1)]

    def add(self, draft: Draft) -> None:
        """Let a draft that names images wait for them."""
        drafts = self._drafts_of(draft)
        size = draft.asked.input_bytes + sum(part.value.nbytes for part in draft.parts if isinstance(part, Row))
        if draft.shadow and (len(drafts.by_number) >= SHADOWS_MAX or drafts.held_bytes + size > SHADOW_BYTES_MAX):
            return
        places = deque(i for i, part in enumerate(draft.parts) if isinstance(part, ImageReference))
        drafts.by_number[next(self._numbers)] = _Reading(draft, places, len(places), size)
        drafts.held_bytes += size

    def step(self, now_ms: int, bytes_max: int) -> list[Draft]:
        """Take what was read, read on, and give the drafts that wait no more: complete, or with a refusal.

        While more than `bytes_max` bytes are held only the oldest reads on: so it gets done, and makes room.
        """
        if not len(self) and not self._tickets:  # every step of a worker without images
            return []
        gone = self._late(now_ms) + self._taken()
        self._read_on(self._owed, bytes_max)
        if not self._owed.have_more_to_read():
            self._read_on(self._shadows, SHADOW_BYTES_MAX)
        return gone

    def drop(self, is_gone: Callable[[Draft], bool]) -> None:
        """Forget drafts; what is read for them is thrown away when it comes."""
        for drafts in (self._owed, self._shadows):
            for number in [number for number, one in drafts.by_number.items() if is_gone(one.draft)]:
                self._leave(drafts, number)

    def using(self) -> set[int]:
        """Models (by `id`) that drafts wait to be computed with."""
        drafts = (*self._owed.by_number.values(), *self._shadows.by_number.values())
        return {id(one.draft.route.servable) for one in drafts}

    def _late(self, now_ms: int) -> list[Draft]:
        found = []
        for drafts in (self._owed, self._shadows):
            for number, one in list(drafts.by_number.items()):
                deadline_ms = one.draft.asked.deadline_ms
                if deadline_ms is not None and deadline_ms < now_ms:
                    one.draft.refusal = Expired(now_ms - deadline_ms, "its images were read")
                    one.draft.reading_ms = one.reading_ms()
                    found.append(self._leave(drafts, number))
        return found

    def _taken(self) -> list[Draft]:
        found = []
        for ticket, image, start, end in self.reads.collect():
            number, place = self._tickets.pop(ticket)
            one = self._owed.by_number.get(number) or self._shadows.by_number.get(number)
            if one is None:
                continue  # refused, late or dropped meanwhile
            drafts = self._drafts_of(one.draft)
            one.spans.append((start, end))
            if isinstance(image, Refused):
                one.draft.refusal = image
                one.draft.reading_ms = one.reading_ms()
                found.append(self._leave(drafts, number))
                continue
            one.draft.parts[place] = image
            one.missing -= 1
            size = _bytes_of(image)
            one.bytes_held += size
            drafts.held_bytes += size
            if not one.missing:
                one.draft.reading_ms = one.reading_ms()
                found.append(self._leave(drafts, number))
            elif one.draft.shadow and one.bytes_held > SHADOW_BYTES_MAX:
                self._leave(drafts, number)  # no lane would keep it
        return found

    def _read_on(self, drafts: _Drafts, bytes_max: int) -> None:
        room = self.reads.room()
        for rank, (number, one) in enumerate(drafts.by_number.items()):
            if room <= 0 or (rank and drafts.held_bytes >= bytes_max):
                return
            read = one.draft.route.servable.read_image
            assert read is not None  # `parts_of` refuses images of models without
            while one.todo and room > 0:
                place = one.todo.popleft()
                reference = one.draft.parts[place]
                assert isinstance(reference, ImageReference)
                ticket = next(self._numbers)
                self._tickets[ticket] = number, place
                self.reads.submit(ticket, read, reference)
                room -= 1

    def _drafts_of(self, draft: Draft) -> _Drafts:
        return self._shadows if draft.shadow else self._owed

    def _leave(self, drafts: _Drafts, number: int) -> Draft:
        one = drafts.by_number.pop(number)
        drafts.held_bytes -= one.bytes_held
        return one.draft


def seconds_covered(spans: Sequence[tuple[float, float]]) -> float:
    """How much time spans (start, end) cover together: what several threads do at once counts once."""
    covered, until = 0.0, -math.inf
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered


def _bytes_of(image: Item) -> int:
    return 0 if image.pixels is None else image.pixels.nbytes

"""What waiting for images must satisfy, whatever comes in which order: each request leaves once, memory is bounded."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_workers.admission import image_reading
from inference_workers.admission.image_reading import SHADOW_BYTES_MAX, SHADOWS_MAX, ImageReading, seconds_covered
from inference_workers.admission.requests import Draft
from inference_workers.images.pool import ReadDone
from inference_workers.ports import Item
from inference_workers.tasks.inputs import Expired, Refused
from schemas.requests import ImageReference

IMAGE = Item((), b"image", pixels=np.zeros((1, 5, 5), np.float32), cost=1)
IMAGE_BYTES = 100
ROOM = 3
GOOD, BAD = (ImageReference(name=name, media_type="image/png") for name in ("good", "bad"))


class Reads:
    """Reads some of what it holds, the newest or the oldest first, when told to."""

    def __init__(self):
        self.held, self.done, self.submitted = [], [], []

    def room(self):
        return ROOM - len(self.held)

    def submit(self, ticket, read, reference):
        assert self.room() > 0
        self.held.append((ticket, reference))
        self.submitted.append(ticket)

    def finish(self, count, newest):
        for _ in range(min(count, len(self.held))):
            ticket, reference = self.held.pop(-1 if newest else 0)
            found = IMAGE if reference is GOOD else Refused("image_undecodable", "no")
            self.done.append(ReadDone(ticket, found, 0.0, 0.0))

    def collect(self):
        done, self.done = self.done, []
        return done


def draft_of(parts, deadline_ms=None, shadow=False, input_bytes=0):
    servable = SimpleNamespace(read_image=lambda reference: IMAGE)
    asked = SimpleNamespace(deadline_ms=deadline_ms, appended_ms=0, input_bytes=input_bytes)
    return Draft(asked, None, SimpleNamespace(servable=servable), list(parts), shadow)


requests = st.tuples(
    st.lists(st.sampled_from([GOOD, GOOD, GOOD, BAD, "text"]), min_size=1, max_size=6).filter(
        lambda parts: any(part in (GOOD, BAD) for part in parts)
    ),
    st.none() | st.integers(0, 30),
)
events = st.lists(requests | st.tuples(st.integers(0, 4), st.booleans()), max_size=40)


@given(events=events, images_max=st.integers(0, 6))
def test_each_request_leaves_once_and_memory_is_bounded(events, images_max):
    reads = Reads()
    reading = ImageReading(reads)
    added, left = [], []

    def step(now_ms):
        left.extend(reading.step(now_ms, images_max * IMAGE_BYTES))
        oldest = next((len([p for p in one.parts if p != "text"]) for one in added if one not in left), 0)
        assert reading.held_bytes <= (images_max + ROOM + oldest) * IMAGE_BYTES

    for now_ms, event in enumerate(events):
        if isinstance(event[0], list):
            added.append(draft_of(*event))
            reading.add(added[-1])
        else:
            reads.finish(*event)
        step(now_ms)
    rounds = 0
    while len(reading):
        reads.finish(ROOM, newest=False)
        step(10)
        rounds += 1
        assert rounds <= 10 * (len(added) + 1), "it gets on, however little memory there is"
    assert sorted(map(id, left)) == sorted(map(id, added))
    assert reading.held_bytes == 0
    assert len(reads.submitted) == len(set(reads.submitted))
    for one in left:
        if one.refusal is None:
            assert all(part is IMAGE or part == "text" for part in one.parts)
        else:
            assert isinstance(one.refusal, Expired) or BAD in one.parts


@given(spans=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10)).map(lambda one: (one[0], sum(one)))))
def test_time_covered_is_every_moment_in_which_something_was_read_once(spans):
    moments = {moment for start, end in spans for moment in range(start, end)}
    assert seconds_covered(spans) == len(moments)


def test_shadows_are_bounded_and_owed_nothing():
    reading = ImageReading(Reads())
    for _ in range(SHADOWS_MAX + 5):
        reading.add(draft_of([GOOD], shadow=True))
    reading.add(draft_of([GOOD]))
    assert (len(reading), reading.waiting()) == (SHADOWS_MAX + 1, 1)
    reading.drop(lambda one: one.shadow)
    assert (len(reading), reading.waiting()) == (1, 1)


def test_shadows_take_no_room_of_requests_that_are_owed_an_answer():
    reads = Reads()
    reading = ImageReading(reads)
    shadow = draft_of([GOOD] * 9, shadow=True)
    reading.add(shadow)
    room_of_two = 2 * IMAGE_BYTES
    for _ in range(2):
        assert reading.step(0, room_of_two) == []
        reads.finish(ROOM, newest=False)
    reading.step(0, room_of_two)
    assert (reading.held_bytes, reading.shadow_bytes) == (0, 6 * IMAGE_BYTES)
    reads.finish(ROOM, newest=False)
    owed = [draft_of([GOOD] * 2), draft_of([GOOD] * 2)]
    for one in owed:
        reading.add(one)
    assert reading.step(0, room_of_two) == [shadow], "what it had begun"
    later = draft_of([GOOD] * 3, shadow=True)
    reading.add(later)
    left = []
    for _ in range(2):  # four images by three threads, as if there were no shadow
        reads.finish(ROOM, newest=False)
        left += reading.step(0, room_of_two)
    assert (left, reading.held_bytes) == (owed, 0)
    reads.finish(ROOM, newest=False)
    assert reading.step(0, room_of_two) == [later]


def test_shadows_are_not_read_for_while_the_bytes_of_others_are_at_their_bound():
    reads = Reads()
    reading = ImageReading(reads)
    reading.add(draft_of([GOOD] * 4))
    reading.add(draft_of([GOOD]))
    reading.step(0, 0)
    reads.finish(2, newest=False)
    reading.add(draft_of([GOOD], shadow=True))
    reading.step(0, 0)
    assert len(reads.submitted) == 4, "the oldest reads on, the next has no room, the shadow waits for both"


SHADOW = st.tuples(st.lists(st.sampled_from([GOOD, GOOD, BAD]), min_size=1, max_size=8), st.booleans())


@given(events=st.lists(SHADOW | st.tuples(st.integers(1, 4), st.booleans()), max_size=40), images_max=st.integers(2, 5))
def test_the_memory_of_shadows_is_bounded_and_none_is_stuck(events, images_max):
    reads = Reads()
    reading = ImageReading(reads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_reading, "SHADOW_BYTES_MAX", images_max * IMAGE_BYTES)
        for event in [*events, *[(ROOM, False)] * 200]:
            if isinstance(event[0], list):
                reading.add(draft_of(event[0], shadow=event[1]))
            else:
                reads.finish(*event)
            reading.step(0, 10**9)
            # The others, what the oldest takes until it is thrown away, and what threads had begun.
            assert reading.shadow_bytes <= (2 * images_max + 1 + ROOM) * IMAGE_BYTES
    assert (len(reading), reading.held_bytes, reading.shadow_bytes) == (0, 0, 0)


def test_a_shadow_of_long_texts_is_not_kept_beyond_the_bound():
    reading = ImageReading(Reads())
    for _ in range(3):
        reading.add(draft_of([GOOD], shadow=True, input_bytes=SHADOW_BYTES_MAX // 2))
    assert (len(reading), reading.shadow_bytes) == (2, SHADOW_BYTES_MAX // 2 * 2)


def test_what_waits_counts_with_its_texts_until_it_leaves():
    reads = Reads()
    reading = ImageReading(reads)
    reading.add(draft_of([GOOD, "a long text"], input_bytes=5_000))
    reading.add(draft_of([BAD, "a long text"], input_bytes=700))
    assert reading.step(0, 10_000) == []
    assert reading.held_bytes == 5_700
    reads.finish(1, newest=False)
    assert len(reading.step(1, 10_000)) == 1
    assert reading.held_bytes == 700
    reads.finish(1, newest=False)
    assert len(reading.step(2, 10_000)) == 1
    assert (reading.held_bytes, len(reading)) == (0, 0)

"""Requests with images: read beside the loop, each for itself; memory bounded, deadlines kept, nobody else held up."""

import json

import numpy as np
import pytest

from inference_workers.images.pool import ReadDone, read_of
from inference_workers.ports import Item
from inference_workers.tasks.inputs import Refused
from schemas.base import decode
from schemas.predictions import InferenceAnswered, InferenceFailed, RequestShed
from schemas.telemetry import TELEMETRY_KINDS
from schemas.topics import REQUESTS, TELEMETRY
from schemas.vectors import decode_vector
from tests.unit.inference_workers.stand_ins import FakeEngine, InlineReads, World


class Pictures(FakeEngine):
    """Vectors of one number: the image's, 0 for a text."""

    def rows(self, items):
        return np.array([[0.0 if one.pixels is None else one.pixels[0, 0, 0]] for one in items], np.float32)


class Folder:
    """Images by name: `3.png` is all threes. `bad.png` is refused, `bug.png` raises what nobody foresaw."""

    def __init__(self):
        self.read = []

    def __call__(self, reference):
        self.read.append(reference.name)
        if reference.name == "bad.png":
            raise Refused("image_undecodable", "no picture")
        if reference.name == "bug.png":
            raise MemoryError("too much")
        number = float(reference.name.removesuffix(".png"))
        return Item((), reference.name.encode(), pixels=np.full((3, 2, 2), number, np.float32), cost=5)


def picture(name):
    return {"image": {"name": f"{name}.png", "media_type": "image/png"}}


def world_of(folder=None, **limits):
    return World(Pictures(), servable={"images": True, "read_image": folder or Folder()}, **limits)


def ask(world, *inputs, **more):
    return world.ask(json.dumps({"input": list(inputs), **more})).offset


def by_offset(world):
    return {message.request.offset: message for _, message in world.predictions()}


def numbers_of(answer):
    return [decode_vector(one.vector)[0] for one in answer.outputs]


def test_images_come_back_at_their_places_between_texts():
    world = world_of()
    ask(world, picture(3), "red shoes", picture(1), picture(2))
    answer = by_offset(world.run())[0]
    assert numbers_of(answer) == [3, 0, 1, 2]
    assert world.outcomes() == {(0, 0): ("answered", "")}
    assert world.committed() == {0: 1}


@pytest.mark.parametrize(("name", "code"), [("bad", "image_undecodable"), ("bug", "image_error")])
def test_an_image_that_cannot_be_read_fails_its_request_alone(name, code):
    world = world_of()
    ask(world, picture(1), picture(name), picture(2))
    ask(world, picture(4))
    answers = by_offset(world.run())
    assert (type(answers[0]), answers[0].error) == (InferenceFailed, code)
    assert numbers_of(answers[1]) == [4]
    assert world.outcomes() == {(0, 0): ("failed", code), (0, 1): ("answered", "")}
    assert world.admission.images.held_bytes == 0, "nothing is kept of a refused request"


def test_reading_images_is_preparation_and_no_waiting():
    world = world_of(reads=InlineReads(held=True, seconds=0.05))  # its two images at the same time
    ask(world, picture(1), picture(2))
    world.at_poll[40] = lambda: setattr(world.reads, "held", False)
    [answer] = by_offset(world.run()).values()
    [event] = [decode(one.headers, one.value, TELEMETRY_KINDS).data for one in world.broker.of(TELEMETRY.name)]
    [queue_ms], [total_ms] = event.requests.queue_ms, event.requests.total_ms
    assert total_ms > 50, "or the test shows nothing"
    assert (queue_ms, event.batches.tokenise_ms) == (total_ms - 50, [50])  # nothing else takes time here
    assert (answer.timings_ms.queue, answer.timings_ms.tokenise) == (queue_ms, 50)


def test_of_a_cached_image_reading_is_no_waiting_either():
    world = world_of(reads=InlineReads(seconds=0.003), cache_bytes_max=1_000_000)
    for _ in range(2):
        ask(world, picture(1))
        world.run()
    first, second = by_offset(world).values()
    assert (first.cached, second.cached) == (False, True)
    assert second.timings_ms.tokenise == 3
    assert second.timings_ms.total > 3, "or the test shows nothing"
    assert second.timings_ms.queue == second.timings_ms.total - 3


@pytest.mark.parametrize(
    ("asked", "read_ms", "outcome"),
    [
        ({}, 50, ("failed", "image_undecodable")),
        ({"timeout_ms": 40}, 0, ("shed", "expired")),  # a read that is not done says nothing of how long it took
    ],
)
def test_of_a_refused_request_reading_is_no_waiting_either(asked, read_ms, outcome):
    world = world_of(reads=InlineReads(held=True, seconds=0.05))
    ask(world, picture("bad"), **asked)
    world.at_poll[40] = lambda: setattr(world.reads, "held", False)
    world.run(60)
    assert world.outcomes() == {(0, 0): outcome}
    [event] = [decode(one.headers, one.value, TELEMETRY_KINDS).data for one in world.broker.of(TELEMETRY.name)]
    [queue_ms], [total_ms] = event.requests.queue_ms, event.requests.total_ms
    assert total_ms > read_ms, "or the test shows nothing"
    assert queue_ms == total_ms - read_ms


class FirstOnly(InlineReads):
    """Only the first image ever comes."""

    def collect(self):
        if self.held or not self.todo:
            return []
        self.held = True
        ticket, read, reference = self.todo.pop(0)
        return [ReadDone(ticket, read_of(read, reference), 0.0, self.seconds)]


def test_of_a_request_that_comes_too_late_reading_is_no_waiting_either():
    world = world_of(reads=FirstOnly(seconds=0.003))
    ask(world, picture(1), picture(2), timeout_ms=100)
    assert read_and_waited(world.run(200)) == [("shed", 3)]
    world = world_of(reads=InlineReads(room_max=20, seconds=0.003))
    world.compute.held = True
    for number in range(16):  # one batch is computed and one prefetched, so that the last request has to wait
        ask(world, picture(number))
    ask(world, picture(16), timeout_ms=100)
    world.at_poll[40] = lambda: setattr(world.compute, "held", False)
    assert sorted(read_and_waited(world.run(200))) == [("answered", 3)] * 16 + [("shed", 3)]


def read_and_waited(world):
    """Of each request its outcome, and how much of its time was no waiting, in milliseconds."""
    events = [decode(one.headers, one.value, TELEMETRY_KINDS).data for one in world.broker.of(TELEMETRY.name)]
    rows = [event.requests for event in events]
    return [
        (outcome.value, round(total_ms - queue_ms, 3))
        for one in rows
        for outcome, total_ms, queue_ms in zip(one.outcome, one.total_ms, one.queue_ms, strict=True)
    ]


def test_a_slow_image_holds_up_neither_texts_nor_the_deadline():
    world = world_of(reads=InlineReads(held=True))
    ask(world, picture(1), timeout_ms=400)
    ask(world, "red shoes")
    told = {}
    world.at_poll[40] = lambda: told.update(by_offset(world))
    answers = by_offset(world.run(60))
    assert isinstance(told[1], InferenceAnswered), "the text is answered while the image is still being read"
    assert (type(answers[0]), answers[0].reason) == (RequestShed, "expired")
    assert world.outcomes()[0, 0] == ("shed", "expired")
    assert world.committed() == {0: 2}


def test_an_image_that_comes_too_late_is_thrown_away():
    world = world_of(reads=InlineReads(held=True))
    ask(world, picture(1), timeout_ms=100)
    world.at_poll[5] = lambda: setattr(world.reads, "held", False)
    world.run(60)
    assert world.outcomes() == {(0, 0): ("shed", "expired")}
    assert world.engine.calls == 0
    assert (world.reads.todo, world.admission.images._tickets) == ([], {})


def test_requests_that_wait_for_images_count_as_waiting_and_go_with_their_partition():
    world = world_of(reads=InlineReads(held=True))
    ask(world, picture(1))
    seen = []
    world.at_poll[30] = lambda: seen.append((world.work.waiting(), world.admission.images.first_appended_ms()))
    world.at_poll[20] = lambda: world.work.dropped({(REQUESTS.name, 0)})
    world.at_poll[10] = lambda: seen.append((world.work.waiting(), world.admission.images.first_appended_ms()))
    world.run(60)
    assert [count for count, _ in seen] == [1, 0]
    assert (len(seen[0][1]), seen[1][1]) == (1, [])
    assert world.predictions() == []
    assert world.committed() == {}

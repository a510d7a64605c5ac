"""What a worker takes in while its model is busy: one batch ahead, and no more bytes than it may hold."""

import json

from tests.unit.inference_workers.stand_ins import World, look_while_held


def ask(world, count, text="red shoes"):
    for number in range(count):
        world.ask(json.dumps({"input": f"{text} {number}"}), partition=number % 2)


def test_one_batch_lies_ready_while_another_is_computed():
    world, seen = World(), []
    ask(world, 3 * 8)
    world.compute.held = True

    def look():
        seen.append([len(arrangement.places) for _, _, arrangement in world.compute.jobs])
        world.compute.held = False

    world.at_poll = {50: look}
    world.run(100)
    assert seen == [[8, 8]], "the third batch waits, and may still get better company"
    assert len(world.outcomes()) == 24


def test_a_queue_full_of_bytes_pauses_fetching_until_there_is_room():
    world = World(queue_bytes_max=20_000, poll_records_max=4)
    ask(world, 60, "red " * 250)
    waiting, paused = look_while_held(world, 250)
    assert 0 < waiting < 40, "60 were asked for, 100 may be held"
    assert paused == 2
    assert world.log._paused == set()
    assert len(world.outcomes()) == 60
    assert world.committed() == {0: 30, 1: 30}

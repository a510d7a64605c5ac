"""Partitions that are taken away from a worker and given back."""

import json

from schemas.topics import REQUESTS
from tests.unit.inference_workers.stand_ins import World


def test_what_was_paused_when_it_was_taken_away_is_read_on_when_it_comes_back():
    """The client goes on pausing it: whoever forgets that calls itself idle for ever."""
    world = World()
    place = (REQUESTS.name, 0)

    def come_back():
        world.log.pause([place])
        world.loop._paused.add(place)  # as the loop does when it presses back
        world.log.revoke({place})
        world.log.assign({place})
        for number in range(20):
            world.ask(json.dumps({"input": f"red {number}"}))

    world.at_poll = {50: come_back}
    world.run()
    assert len(world.predictions()) == 20


def test_what_was_not_paused_is_not_resumed_when_it_is_assigned():
    """To resume what is just being assigned can keep the client from ever fetching it."""
    world = World()
    resumed = []
    place = (REQUESTS.name, 0)

    def come_back():
        world.log.resume = resumed.extend
        world.log.revoke({place})
        world.log.assign({place})
        world.ask(json.dumps({"input": "red"}))

    world.at_poll = {50: come_back}
    world.run()
    assert len(world.predictions()) == 1
    assert resumed == []

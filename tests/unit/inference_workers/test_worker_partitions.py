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
        world.log.revoke({place})
        world.log.assign({place})
        for number in range(20):
            world.ask(json.dumps({"input": f"red {number}"}))

    world.at_poll = {50: come_back}
    world.run()
    assert len(world.predictions()) == 20

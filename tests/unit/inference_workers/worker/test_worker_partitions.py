"""Partitions that are taken away from a worker and given back."""

import json
import threading

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


def test_what_was_computed_when_a_partition_is_taken_away_is_answered_told_and_committed_before_it_goes():
    """Its next owner begins behind that, and does none of it again."""
    world = World()
    for number in range(3):
        world.ask(json.dumps({"input": f"red {number}"}), partition=1)
    seen = []

    def hold():
        world.compute.held = True

    def revoke():
        world.compute.held = False
        give_up = world.log._on_revoked
        world.log._on_revoked = lambda partitions: (look(), give_up(partitions), look())
        world.log.revoke({(REQUESTS.name, 1)})

    def look():
        seen.append((world.committed(), len(world.predictions()), len(world.outcomes())))

    world.at_poll = {58: hold, 50: revoke}
    world.run()
    assert seen[:2] == [({}, 0, 0), ({1: 3}, 3, 3)]  # before the client is told that it may go


def test_what_a_log_says_while_it_closes_touches_nothing_on_whatever_thread_it_comes():
    """All is done by then; the client may take long to leave, and calls back from where it leaves."""
    world = World()
    world.ask(json.dumps({"input": "red shoes"}), partition=0)
    touched = []

    def told():
        world.log._on_revoked({(REQUESTS.name, 0)})
        world.log._on_assigned({(REQUESTS.name, 0)})

    def leaving():
        for name in ("dropped", "assigned", "step"):
            setattr(world.work, name, lambda *given, name=name, **more: touched.append(name))
        thread = threading.Thread(target=told)
        thread.start()
        thread.join()
        left.append(world.committed())

    left = []
    world.at_poll = {50: lambda: setattr(world.log, "close", leaving)}
    world.run()
    assert (left, touched) == ([{0: 1}], [])

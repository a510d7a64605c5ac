"""What of a backlog a worker takes: a share of what may wait, and what is answered and not told yet is not waiting."""

from tests.unit.inference_workers.stand_ins import World


def test_a_partition_with_a_backlog_does_not_keep_the_others_out():
    world = World(poll_records_max=10, held_records_max=40)
    world.compute.held = True  # it is slower than what comes, or there would be no backlog
    for _ in range(600):
        world.ask('{"input": "shoes"}', partition=0)
    for _ in range(5):
        world.ask('{"input": "shoes"}', partition=1)
    answered = []

    def go_on():
        world.compute.held = False

    world.at_poll = {6: go_on, 1: lambda: answered.extend(record.partition for record, _ in world.predictions())}
    world.run(polls=12)
    assert answered.count(1) == 5
    assert 0 < answered.count(0) < 600


def pauses_of(world, count=100):
    """How often a partition was paused while so many requests were answered, in few turns: none is told of before."""
    paused = []

    def look():
        pause = world.log.pause
        world.log.pause = lambda places: (paused.append(places), pause(places))

    world.at_poll = {60: look}
    for _ in range(count):
        world.ask('{"input": "shoes"}')
    world.run(polls=61)
    assert [outcome for outcome, _ in world.outcomes().values()] == ["answered"] * count
    return len(paused)


def test_what_is_answered_and_not_told_yet_keeps_nothing_out():
    assert pauses_of(World(poll_records_max=10, held_records_max=40)) == 0
    held = World(poll_records_max=30, held_records_max=40)
    assert pauses_of(held) > 0, "thirty at once are more than the share of one of two partitions"


def test_so_many_records_are_between_the_first_that_is_not_done_and_the_last():
    assert pauses_of(World(poll_records_max=10, window_records_max=30)) > 0

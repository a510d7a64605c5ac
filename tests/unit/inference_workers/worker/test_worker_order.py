"""In which order a worker's turn does things: the model never waits for what can be told while it computes."""

from tests.unit.inference_workers.stand_ins import World


def test_the_next_batch_is_handed_over_before_the_last_is_told_of():
    world = World()
    submit, told_by_then = world.compute.submit, []

    def note(*job):
        told_by_then.append(len(world.predictions()))
        submit(*job)

    world.compute.submit, world.compute.held = note, True
    world.ask('{"input": "red"}')
    world.at_poll = {
        50: lambda: world.ask('{"input": "blue"}'),  # waits while the first is computed
        30: lambda: setattr(world.compute, "held", False),
    }
    world.run(60)
    assert told_by_then == [0, 0]
    assert len(world.predictions()) == 2


def test_a_batchs_answers_are_sent_at_once_and_only_they():
    world = World()
    for text in ("red", "blue", "boots"):
        world.ask(f'{{"input": "{text}"}}')
    world.ask("no JSON", partition=1)
    world.at_poll = {30: lambda: world.ask('{"input": "shoes"}')}
    world.run(60)
    dead_letter, answers, telemetry = 1, 3, 2
    assert world.publisher.sent_now == [dead_letter, dead_letter + answers, dead_letter + answers + telemetry + 1]


def test_answers_may_wait_for_others_while_a_batch_lies_ready():
    world = World()
    collect = world.compute.collect

    def one_at_a_time():
        later, world.compute.jobs = world.compute.jobs[1:], world.compute.jobs[:1]
        found, world.compute.jobs = collect(), later
        return found

    world.compute.collect = one_at_a_time
    for number in range(24):  # three full batches, of which two are under way when the first is done
        world.ask(f'{{"input": "red {number}"}}')
    world.run(60)
    assert world.publisher.sent_now == [16, 24]

"""Which faults a run has, and in which order: chosen by its seed."""

import argparse
import time
from collections.abc import Callable, Iterator
from random import Random

from tests.chaos import faults as f
from tests.chaos import topic_faults as t

FAULTS = {
    one.__name__: one
    for module in (f, t)
    for one in vars(module).values()
    if isinstance(one, type) and issubclass(one, f.Fault) and one is not f.Fault
}
"""By name, as `--fault` takes them."""


def short_schedule(random: Random) -> list[f.Fault]:
    """Most faults once, in an order of the seed's; the topic is made anew early, so that books of the next one fill."""
    chosen = [
        *(f.Kill(kind) for kind in ("worker", "job", "ledger", "kafka", "clickhouse")),
        f.KillTwo(),
        f.Restart(),
        f.Storm(),
        f.Zombie("worker"),
        f.Zombie("job"),
        f.Away("kafka", 30),
        f.Away("clickhouse", 6),
        f.Cut("kafka", 5),
        f.Slow("clickhouse", 0.3),
        f.BrokenInserts(),
        f.LostReplies(),
        f.DiskFull("kafka", 6),
        f.DiskFull("clickhouse", 6),
        t.Poison(),
        f.HangingEngine(),
        f.ClockStep(),
        f.Precise("die_between_state_and_commit"),
        f.Precise("die_between_answer_and_telemetry"),
        f.ZombieBeforeManifest(),
        t.RetentionPasses(),
    ]
    random.shuffle(chosen)
    chosen.insert(random.randint(3, len(chosen) // 3), t.TopicMadeAnew())
    return chosen


def long_round(random: Random, number: int) -> list[f.Fault]:
    """Many kills, and everything else now and then: in four rounds all of it."""
    kinds = ("worker",) * 8 + ("job",) * 8 + ("ledger",) * 2 + ("kafka",) * 4 + ("clickhouse",) * 4
    chosen: list[f.Fault] = [f.Kill(kind) for kind in kinds]
    more: list[list[f.Fault]] = [
        [
            *(f.Zombie("worker"), f.Zombie("job"), f.LostReplies(), f.Away("kafka", 30), t.TopicMadeAnew(200)),
            *(f.Precise("die_between_state_and_commit"), f.HungEngine()),
        ],
        [
            *(f.Storm(), f.BrokenInserts(), f.Cut("kafka", 8), t.Poison(), f.DiskFull("kafka", random.uniform(2, 30))),
            *(f.Precise("die_between_answer_and_telemetry"), f.Frozen("clickhouse", 40)),
        ],
        [
            *(f.KillTwo(), f.Slow("kafka", 0.05), f.Slow("clickhouse", 0.3), f.HangingEngine()),
            *(f.ZombieBeforeManifest(), f.Zombie("ledger"), t.TopicMadeAnew()),
        ],
        [
            *(f.Away("clickhouse", 60), f.Cut("clickhouse", 10), f.DiskFull("clickhouse", random.uniform(2, 30))),
            *(f.ClockStep(), f.Restart(), t.RetentionPasses(), f.Frozen("kafka", 70)),
        ],
    ]
    chosen += more[number % len(more)]
    random.shuffle(chosen)
    return chosen


def fault_of(text: str) -> f.Fault:
    """`Kill:worker`, `Away:kafka:30`, `Poison`: a fault and what it is made with."""
    name, *given = text.split(":")
    if name not in FAULTS:
        raise argparse.ArgumentTypeError(f"no fault {name!r}; there are {', '.join(sorted(FAULTS))}")
    return FAULTS[name](*(float(one) if one.replace(".", "").isdigit() else one for one in given))


def planned(
    random: Random,
    kills: Callable[[], int],
    *,
    seconds: float | None = None,
    kills_max: int | None = None,
    only: list[f.Fault] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[f.Fault]:
    """The faults of a run: `only` those, or for so long, or until `kills` says that so many were killed, or the short
    form."""
    if only:
        yield from only
        return
    if seconds is None and kills_max is None:
        yield from short_schedule(random)
        return
    began, number = clock(), 0
    while True:
        for fault in long_round(random, number):
            if (seconds is not None and clock() - began > seconds) or (kills_max is not None and kills() >= kills_max):
                return
            yield fault
        number += 1

import argparse
from itertools import islice
from random import Random

import pytest

from tests.chaos.schedule import FAULTS, fault_of, long_round, planned, short_schedule
from tests.chaos.topic_faults import TopicMadeAnew

LONG_ONLY = {"HungEngine", "Frozen"}
SEEDS = range(30)


def kinds(faults):
    return {type(one).__name__ for one in faults}


def test_each_fault_there_is_comes_in_the_short_form_or_in_the_long_one():
    short = kinds(short_schedule(Random(1)))
    long = {name for number in range(4) for name in kinds(long_round(Random(1), number))}
    assert long == set(FAULTS)
    assert short == set(FAULTS) - LONG_ONLY


def test_the_long_form_has_zombies_of_each_kind_of_process():
    names = {one.name for number in range(4) for one in long_round(Random(1), number)}
    assert {"Zombie worker", "Zombie job", "Zombie ledger"} <= names


def test_the_short_form_of_each_seed_kills_each_kind_of_process_and_has_the_same_faults():
    expected = sorted(one.name for one in short_schedule(Random(0)))
    assert {"Kill worker", "Kill job", "Kill ledger", "Kill kafka", "Kill clickhouse"} <= set(expected)
    for seed in SEEDS:
        assert sorted(one.name for one in short_schedule(Random(seed))) == expected


def test_the_short_forms_order_is_the_seeds():
    def order(seed):
        return [one.name for one in short_schedule(Random(seed))]

    assert order(3) == order(3)
    assert order(3) != order(4)


def test_most_faults_come_after_the_topic_was_made_anew_so_that_its_books_are_about_something():
    for seed in SEEDS:
        faults = short_schedule(Random(seed))
        place = next(at for at, one in enumerate(faults) if isinstance(one, TopicMadeAnew))
        assert 3 <= place <= len(faults) // 3


def test_the_long_form_deletes_the_topic_under_traffic_too():
    made_anew = [one for number in range(4) for one in long_round(Random(1), number) if isinstance(one, TopicMadeAnew)]
    assert sorted(bool(one.waiting) for one in made_anew) == [False, True]


def test_faults_go_on_for_so_long():
    now = iter(range(1_000))
    assert len(list(planned(Random(1), lambda: 0, seconds=50, clock=lambda: next(now)))) == 50


def test_faults_go_on_until_so_many_were_killed():
    killed = []
    faults = planned(Random(1), lambda: len(killed), kills_max=70)
    while next(faults, None) is not None:
        killed += [1, 1]
    assert len(killed) == 70


def test_without_a_time_or_a_number_it_is_the_short_form():
    found = [one.name for one in planned(Random(5), lambda: 0)]
    assert found == [one.name for one in short_schedule(Random(5))]


def test_given_faults_are_the_only_ones():
    given = [fault_of("Away:kafka:30"), fault_of("Poison"), fault_of("TopicMadeAnew:200")]
    assert [one.name for one in islice(planned(Random(1), lambda: 0, kills_max=9, only=given), 9)] == [
        "Away kafka 30 s",
        "Poison",
        "TopicMadeAnew with 200 waiting",
    ]


@pytest.mark.parametrize("text", ["Nothing", "Fault", "Run", "signal", ""])
def test_what_is_no_fault_is_refused_with_those_there_are(text):
    with pytest.raises(argparse.ArgumentTypeError, match="Zombie"):
        fault_of(text)

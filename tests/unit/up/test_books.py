from infra.up.books import Books, Fate
from infra.up.ranges import in_words
from schemas.base import Identity


def books(starts=None, ends=None) -> Books:
    return Books("c", "t", starts or {0: 10, 1: 0}, ends)


def fates(partition: int, offsets, outcome: str = "answered") -> list[Fate]:
    return [Fate(partition, offset, outcome) for offset in offsets]


def rows(**counts):
    """The table's rows of partition 0, by outcome."""
    return {0: counts}


def test_the_books_balance_when_everything_is_told_everywhere():
    ours = books()
    ours.settle([*fates(0, range(10, 20)), Fate(1, 1, "failed"), Fate(1, 0, "answered"), Fate(1, 2, "dead_lettered")])
    ours.observe([*fates(0, range(10, 20)), *fates(1, [0]), *fates(1, [1], "failed"), *fates(1, [2], "dead_lettered")])
    account = ours.account({0: 20, 1: 3}, {0: {"answered": 10}, 1: {"answered": 1, "failed": 1, "dead_lettered": 1}})
    assert (account.sent, account.answered, account.failed, account.dead_lettered, account.owed) == (13, 11, 1, 1, 0)
    assert account.telemetry_rows == 11
    assert account.balanced
    assert ours.differences({0: 20, 1: 3}) == []
    assert ours.is_observed({0: 20, 1: 3})


def test_what_is_not_answered_is_owed_and_named():
    ours = books({0: 0})
    ours.settle(fates(0, [0, 1, 3, 7]))
    ours.observe(fates(0, [0, 1, 3]))
    account = ours.account({0: 8}, rows(answered=4))
    assert account.owed == 4
    assert not account.balanced
    assert ours.oldest_owed({0: 8}) == {0: 2}
    assert ours.differences({0: 8}) == [
        "partition 0: no answer and no dead letter for offsets 2, 4-6",
        "partition 0: no telemetry for offsets 7",
    ]


def test_repeated_answers_count_once_and_are_reported():
    ours = books({0: 0})
    ours.settle(fates(0, [0, 1]))
    ours.settle([Fate(0, 1, "failed"), Fate(0, 0, "answered"), Fate(0, 2, "shed")])
    account = ours.account({0: 3}, None)
    assert (account.answered, account.failed, account.shed, account.repeats) == (2, 0, 1, 2)


def test_only_the_range_is_accounted_for():
    ours = books({0: 10}, {0: 12})
    ours.settle(fates(0, [3, 9, 10, 11, 12, 40]))
    ours.settle(fates(7, [0]))  # a partition made since
    assert ours.account({0: 12}, None).answered == 2
    assert ours.repeats == 0


def test_a_missing_or_doubled_row_of_any_outcome_is_no_balance():
    ours = books({0: 0})
    for take in (ours.settle, ours.observe):
        take([*fates(0, range(5)), *fates(0, [5], "failed"), *fates(0, [6], "shed")])

    def balanced(seen):
        return ours.account({0: 7}, seen).balanced

    assert balanced(rows(answered=5, failed=1, shed=1))
    for wrong in ({"answered": 4}, {"answered": 6}, {"failed": 0}, {"shed": 2}, {"dead_lettered": 1}):
        assert not balanced(rows(**{"answered": 5, "failed": 1, "shed": 1} | wrong)), wrong
    assert not balanced({1: {"answered": 5, "failed": 1, "shed": 1}}), "rows of another partition"


def test_without_the_table_it_is_known_what_kafka_says():
    ours = books({0: 0})
    for take in (ours.settle, ours.observe):
        take(fates(0, range(5)))
    account = ours.account({0: 5}, None)
    assert (account.balanced, account.agrees_in_kafka) == (False, True)
    assert (account.as_json()["table_rows"], account.as_json()["balanced"]) == (None, None)
    assert ours.account({0: 6}, None).as_json()["balanced"] is False, "one is owed, whatever the table says"


def test_an_outcome_told_differently_is_named():
    ours = books({0: 0})
    ours.settle(fates(0, [0]))
    ours.observe(fates(0, [0], "failed"))
    assert not ours.account({0: 1}, rows(failed=1)).balanced
    assert ours.differences({0: 1}) == [
        "partition 0: answered by the first answer and failed by telemetry: offsets 0: 1"
    ]


def test_two_requests_with_each_others_outcome_are_no_balance():
    ours = books({0: 0})
    ours.settle([*fates(0, [0, 1]), *fates(0, [2], "shed")])
    ours.observe([*fates(0, [0], "shed"), *fates(0, [1, 2])])
    account = ours.account({0: 3}, rows(answered=2, shed=1))
    assert (account.answered, account.telemetry_rows, account.table_rows) == (2, 2, 2)
    assert (account.unlike, account.agrees_in_kafka, account.balanced) == (2, False, False)
    assert ours.unlike(0) == [(("answered", "shed"), 1, [0]), (("shed", "answered"), 1, [2])]


def test_answers_of_another_topic_are_not_ours():
    assert books().is_ours(Identity(cluster_id="c", topic_id="t", partition=0, offset=1))
    assert not books().is_ours(Identity(cluster_id="c", topic_id="older", partition=0, offset=1))


def test_the_picture_never_shows_more_answers_than_requests():
    ours = books({0: 0})
    ours.settle(fates(0, range(8)))
    assert ours.account(ours.ends_at_least({0: 5}), None).sent == 8


def test_ranges_in_words():
    assert in_words([(7, 8), (12, 20)], 5) == "offsets 7, 12-19"
    assert in_words([(1, 2), (3, 4)], 2) == "offsets 1, 3 and more"

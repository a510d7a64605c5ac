from infra.up.books import Books, Fate, in_words
from schemas.base import Identity


def books(starts=None, ends=None) -> Books:
    return Books("c", "t", starts or {0: 10, 1: 0}, ends)


def fates(partition: int, offsets, outcome: str = "answered") -> list[Fate]:
    return [Fate(partition, offset, outcome) for offset in offsets]


def test_the_books_balance_when_everything_is_told_everywhere():
    ours = books()
    ours.settle([*fates(0, range(10, 20)), Fate(1, 1, "failed"), Fate(1, 0, "answered"), Fate(1, 2, "dead_lettered")])
    ours.observe([*fates(0, range(10, 20)), *fates(1, [0]), *fates(1, [1], "failed"), *fates(1, [2], "dead_lettered")])
    account = ours.account({0: 20, 1: 3}, table_rows=11)
    assert (account.sent, account.answered, account.failed, account.dead_lettered, account.owed) == (13, 11, 1, 1, 0)
    assert account.telemetry_rows == 11
    assert account.balanced
    assert ours.differences({0: 20, 1: 3}) == []
    assert ours.is_observed({0: 20, 1: 3})


def test_what_is_not_answered_is_owed_and_named():
    ours = books({0: 0})
    ours.settle(fates(0, [0, 1, 3, 7]))
    ours.observe(fates(0, [0, 1, 3]))
    account = ours.account({0: 8}, table_rows=4)
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
    account = ours.account({0: 3}, table_rows=None)
    assert (account.answered, account.failed, account.shed, account.repeats) == (2, 0, 1, 2)


def test_only_the_range_is_accounted_for():
    ours = books({0: 10}, {0: 12})
    ours.settle(fates(0, [3, 9, 10, 11, 12, 40]))
    ours.settle(fates(7, [0]))  # a partition made since
    assert ours.account({0: 12}, None).answered == 2
    assert ours.repeats == 0


def test_a_missing_or_doubled_row_is_no_balance():
    ours = books({0: 0})
    ours.settle(fates(0, range(5)))
    ours.observe(fates(0, range(5)))
    assert ours.account({0: 5}, 5).balanced
    assert not ours.account({0: 5}, 4).balanced
    assert not ours.account({0: 5}, 6).balanced
    assert not ours.account({0: 5}, None).balanced


def test_an_outcome_told_differently_is_named():
    ours = books({0: 0})
    ours.settle(fates(0, [0]))
    ours.observe(fates(0, [0], "failed"))
    assert not ours.account({0: 1}, 1).balanced
    assert "outcomes differ" in ours.differences({0: 1})[0]


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

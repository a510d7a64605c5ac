"""The books against a plain count, whatever is said in whatever order."""

from hypothesis import given
from hypothesis import strategies as st

from infra.up.books import Books, Fate, without

FATES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 30), st.sampled_from(["answered", "failed", "shed", "dead_lettered"])),
    max_size=60,
)


@given(said=FATES, told=FATES, starts=st.tuples(st.integers(0, 10), st.integers(0, 10)), end=st.integers(31, 35))
def test_the_first_word_counts_and_the_sum_is_what_was_sent(said, told, starts, end):
    books = Books("c", "t", dict(enumerate(starts)))
    books.settle([Fate(*one) for one in said])
    books.observe([Fate(*one) for one in told])
    first: dict[tuple[int, int], str] = {}
    for partition, offset, outcome in said:
        if offset >= starts[partition]:
            first.setdefault((partition, offset), outcome)
    account = books.account({0: end, 1: end}, None)
    outcomes = list(first.values())
    assert account.sent == 2 * end - sum(starts)
    assert account.answered == outcomes.count("answered")
    assert account.settled == len(outcomes)
    assert account.owed == account.sent - len(outcomes)


@given(ours=st.sets(st.integers(0, 40)), theirs=st.sets(st.integers(0, 40)))
def test_ranges_without_others_are_the_difference_of_sets(ours, theirs):
    found = without(ranges(ours), ranges(theirs))
    assert {n for first, after in found for n in range(first, after)} == ours - theirs


def ranges(numbers: set[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found

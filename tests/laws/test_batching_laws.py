"""What every batch plan must satisfy, whatever waits."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from inference_workers.batching.compute_times import COMPUTE_MS_MAX, KEPT_BATCHES, ComputeTimes
from inference_workers.batching.planner import (
    DEADLINE_MARGIN_MS,
    BatchLimit,
    Waiting,
    arrange,
    plan_batch,
    seconds_until_due,
)
from inference_workers.ports import Item

LIMITS = st.builds(
    BatchLimit,
    tokens_max=st.integers(16, 200),
    requests_max=st.integers(1, 12),
    wait_ms_max=st.integers(0, 20),
    margin_ms=st.integers(20, 400),
)
REQUESTS = st.builds(
    Waiting,
    lengths=st.lists(st.integers(1, 16), min_size=1, max_size=6).map(tuple),
    since_ms=st.integers(0, 50),
    deadline_ms=st.none() | st.integers(0, 200),
)
QUEUES = st.lists(REQUESTS, max_size=60).map(lambda found: sorted(found, key=lambda one: one.since_ms))


def drain(queue, limit):
    """All batches until the queue is empty, as lists of the requests' numbers."""
    numbers, batches = list(range(len(queue))), []
    while numbers:
        plan = plan_batch([queue[i] for i in numbers], limit, 1_000_000, only_full=False)
        assert plan is not None, "everything is due, so something must go"
        batches.append(([numbers[i] for i in plan.members], plan))
        taken = set(plan.members)
        numbers = [one for i, one in enumerate(numbers) if i not in taken]
    return batches


@given(QUEUES, LIMITS)
def test_every_request_is_in_exactly_one_batch(queue, limit):
    assert sorted(i for members, _ in drain(queue, limit) for i in members) == list(range(len(queue)))


def items_of(queue, members):
    """Items of the members; what two have in common they have from `content`."""
    return [[Item([0] * n, b"%d" % n, cost=n) for n in queue[number].lengths] for number in members]


@given(QUEUES, LIMITS)
def test_every_input_has_its_place_and_every_item_one_pass(queue, limit):
    for members, _ in drain(queue, limit):
        mine = items_of(queue, members)
        found = arrange(mine, limit.tokens_max)
        assert [[found.items[n].content for n in place] for place in found.places] == [
            [item.content for item in member] for member in mine
        ]
        assert sorted(n for one in found.passes for n in one) == list(range(len(found.items)))
        assert len({item.content for item in found.items}) == len(found.items), "equal items are computed once"


@given(QUEUES, LIMITS)
def test_the_budgets_hold(queue, limit):
    for members, _ in drain(queue, limit):
        assert len(members) <= limit.requests_max
        found = arrange(items_of(queue, members), limit.tokens_max)
        for one in found.passes:
            assert len(one) * max(found.items[n].cost for n in one) <= limit.tokens_max
        if len(found.passes) > 1:
            assert len(members) == 1, "only a request above the budget takes several passes"


@given(QUEUES, LIMITS)
def test_the_oldest_always_goes_so_nobody_starves(queue, limit):
    left = set(range(len(queue)))
    for members, _ in drain(queue, limit):
        assert min(left) in members
        left -= set(members)


@given(QUEUES, LIMITS, st.integers(0, 300))
def test_what_goes_only_full_goes_anyway(queue, limit, now_ms):
    """Being idle can only close a batch earlier, and closes the same one."""
    full = plan_batch(queue, limit, now_ms, only_full=True)
    if full is not None:
        assert plan_batch(queue, limit, now_ms, only_full=False) == full


@given(QUEUES, LIMITS, st.integers(0, 300), st.integers(20, 400))
def test_a_margin_changes_nothing_without_deadlines(queue, limit, now_ms, margin_ms):
    queue = [replace(one, deadline_ms=None) for one in queue]
    other = replace(limit, margin_ms=margin_ms)
    assert plan_batch(queue, limit, now_ms, only_full=False) == plan_batch(queue, other, now_ms, only_full=False)
    if queue:
        assert seconds_until_due(queue, limit, now_ms) == seconds_until_due(queue, other, now_ms)


@given(QUEUES.filter(bool), LIMITS, st.integers(0, 300))
def test_nobody_waits_longer_than_the_limit_nor_past_the_margin(queue, limit, now_ms):
    until_ms = now_ms + 1000 * seconds_until_due(queue, limit, now_ms)
    for one in queue[: limit.window]:
        assert until_ms <= max(now_ms, one.since_ms + limit.wait_ms_max)
        assert one.deadline_ms is None or until_ms <= max(now_ms, one.deadline_ms - limit.margin_ms)


TIMES = st.lists(st.floats(0, 1e9), max_size=3 * KEPT_BATCHES)


def after(compute_times):
    times = ComputeTimes()
    for one in compute_times:
        times.add(one)
    return times.margin_ms


@given(TIMES)
def test_a_margin_is_bounded_by_what_batches_took_and_by_its_ends(compute_times):
    margin_ms = after(compute_times)
    last = compute_times[-KEPT_BATCHES:]
    assert DEADLINE_MARGIN_MS <= margin_ms <= DEADLINE_MARGIN_MS + COMPUTE_MS_MAX
    assert margin_ms <= DEADLINE_MARGIN_MS + max(last, default=0) + 1
    covered = sum(DEADLINE_MARGIN_MS + min(one, COMPUTE_MS_MAX) <= margin_ms for one in last)
    assert covered >= 15 / 16 * len(last)


@given(TIMES, st.floats(0, 1e4), st.lists(st.floats(0, 1e9), max_size=2))
def test_stalls_are_no_margin_among_many_batches_and_are_forgotten(before, usual_ms, stalls):
    usual = after([usual_ms] * KEPT_BATCHES)
    assert after([*before, *[usual_ms] * KEPT_BATCHES]) == usual
    assert after([*before, *[usual_ms] * KEPT_BATCHES, *stalls]) <= usual, "two of 32 may be as slow as they like"

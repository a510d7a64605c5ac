"""What every batch plan must satisfy, whatever waits."""

from hypothesis import given
from hypothesis import strategies as st

from inference_workers.batching.planner import BatchLimit, Waiting, arrange, plan_batch
from inference_workers.ports import Item

LIMITS = st.builds(
    BatchLimit, tokens_max=st.integers(16, 200), requests_max=st.integers(1, 12), wait_ms_max=st.integers(0, 20)
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

"""The batch planner by example; its laws are in tests/laws."""

from inference_workers.batching.planner import (
    BatchLimit,
    Waiting,
    arrange,
    expired,
    passes_of,
    plan_batch,
    seconds_until_due,
)
from inference_workers.ports import Item
from schemas.telemetry import BatchReason

LIMIT = BatchLimit(tokens_max=32, requests_max=4, wait_ms_max=5)


def waiting(*lengths, since_ms=0, deadline_ms=None):
    return [Waiting((length,), since_ms, deadline_ms) for length in lengths]


def test_nothing_waits_nothing_is_planned():
    assert plan_batch([], LIMIT, 0, only_full=False) is None


def test_a_small_batch_waits_for_company_and_then_goes():
    queue = waiting(4, 5)
    assert plan_batch(queue, LIMIT, 4, only_full=False) is None
    assert seconds_until_due(queue, LIMIT, 4) == 0.001
    plan = plan_batch(queue, LIMIT, 5, only_full=False)
    assert (plan.members, plan.reason) == ((0, 1), BatchReason.TIMEOUT)


def test_a_clock_that_is_set_back_keeps_nobody_waiting_until_it_is_as_late_again():
    queue = waiting(4, 5, since_ms=600_000)
    assert seconds_until_due(queue, LIMIT, 7) == 0
    assert plan_batch(queue, LIMIT, 7, only_full=False).reason is BatchReason.TIMEOUT


def test_a_full_batch_goes_at_once():
    plan = plan_batch(waiting(4, 4, 4, 4, 4), LIMIT, 0, only_full=True)
    assert (len(plan.members), plan.reason) == (4, BatchReason.FULL)


def test_a_busy_device_gets_full_batches_only():
    assert plan_batch(waiting(4, 5), LIMIT, 1_000, only_full=True) is None


def test_a_near_deadline_closes_the_batch():
    queue = waiting(4) + waiting(4, deadline_ms=22)
    assert plan_batch(queue, LIMIT, 1, only_full=False) is None
    assert plan_batch(queue, LIMIT, 2, only_full=False).reason is BatchReason.DEADLINE


def test_the_oldest_takes_the_company_closest_in_length():
    plan = plan_batch(waiting(8, 2, 9, 7, 2), LIMIT, 0, only_full=False)
    assert plan.members == (0, 2, 3)  # 7, then 9: three times 9 fit into 32, a fourth of any length would not


def test_a_request_above_the_budget_goes_alone_in_several_passes():
    queue = [Waiting((16, 4, 16, 16), 0), *waiting(4)]
    plan = plan_batch(queue, LIMIT, 0, only_full=True)
    assert plan.members == (0,)
    assert passes_of([16, 4, 16, 16], 32) == ((1, 0), (2, 3))


def test_passes_hold_a_sequence_above_the_budget_alone():
    assert passes_of([40, 3, 3], 32) == ((1, 2), (0,))


def test_equal_items_are_computed_once():
    red, blue = Item([1, 2], b"red", cost=2), Item([1, 3], b"blue", cost=2)
    found = arrange([[red, blue], [blue], [red, red]], 32)
    assert (found.items, found.passes, found.places) == ((red, blue), ((0, 1),), ((0, 1), (1,), (0, 0)))


def test_a_head_start_goes_before_what_came_earlier_and_ages():
    early, urgent = Waiting((4,), 0, urgency_ms=0), Waiting((4,), 300, urgency_ms=-200)
    later = Waiting((4,), 600, urgency_ms=100)
    queue = sorted([early, later, urgent], key=lambda one: one.urgency_ms)
    assert queue == [urgent, early, later]
    one = BatchLimit(tokens_max=32, requests_max=1, wait_ms_max=5)
    assert plan_batch(queue, one, 1_000, only_full=False).members == (0,)


def test_expired_are_those_whose_deadline_has_passed():
    queue = waiting(4) + waiting(4, 4, deadline_ms=10)
    assert expired(queue, LIMIT, 10) == []
    assert expired(queue, LIMIT, 11) == [1, 2]

import threading

import pytest

from benchmarks.cpu_account import CpuAccount, HookGone, find, install, measure_call_cost
from benchmarks.telemetry_cost import HOOKS, SEND, Snapshot, cost_between


class Ticks:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_call_inside_a_call_counts_once():
    ticks = Ticks()
    account = CpuAccount(ticks)

    def inner():
        ticks.now += 1.0

    measured = account.wrap(inner)

    def outer():
        ticks.now += 2.0
        measured()

    account.wrap(outer)()
    assert (account.seconds, account.calls) == (3.0, 1)
    measured()
    assert (account.seconds, account.calls) == (4.0, 2)


def test_a_call_that_raises_is_accounted_too():
    ticks = Ticks()
    account = CpuAccount(ticks)

    def fails():
        ticks.now += 1.0
        raise ValueError

    with pytest.raises(ValueError):
        account.wrap(fails)()
    account.wrap(lambda: None)()
    assert (account.seconds, account.calls) == (1.0, 2)


def test_threads_that_call_at_once_have_sums_of_their_own():
    account = CpuAccount(lambda: 0.0)

    def call():
        return None

    measured = account.wrap(call)
    threads = [threading.Thread(target=lambda: [measured() for _ in range(5_000)]) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert account.calls == 20_000
    assert [name for name in account.by_call if name.endswith("call")] == list(account.by_call)


def test_what_telemetry_calls_is_still_called_so():
    for hook in (*HOOKS, SEND):
        owner, name = find(hook)
        assert callable(getattr(owner, name))


def test_a_call_with_another_name_is_named():
    with pytest.raises(HookGone, match=r"infra\.outbox:Outbox\.post is not there"):
        install(CpuAccount(), ("infra.outbox:Outbox.post",))
    with pytest.raises(HookGone, match=r"infra\.no_such"):
        find("infra.no_such:Thing.method")


def test_measuring_costs_something_and_little():
    cost = measure_call_cost()
    assert 0 <= cost.inside <= cost.altogether < 1e-3


def test_the_cost_is_what_telemetry_spent_over_what_the_worker_spent():
    first = Snapshot(10.0, 1.0, 2.0, 1_000, 500, 10_000, inside=1e-6, altogether=2e-6)
    last = Snapshot(11.0, 1.1, 2.05, 11_000, 1_500, 20_000, inside=1e-6, altogether=2e-6)
    found = cost_between(first, last, 1_000)
    # 0.05 s measured, less 0.01 s of measuring, and a tenth of the client's 0.1 s; of 1 s less 0.02 s of measuring.
    assert found.telemetry_us == pytest.approx(50.0)
    assert found.worker_us == pytest.approx(980.0)
    assert found.overhead == pytest.approx(0.05 / 0.98)
    assert found.bytes_per_request == 1.0

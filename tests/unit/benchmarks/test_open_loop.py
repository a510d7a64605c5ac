import pytest

from benchmarks.open_loop import send_open_loop
from tests.fakes import FakeClock


def run(due, *, cost=0.0, give_up=lambda: False):
    clock, sent = FakeClock(), []
    started = clock.monotonic()

    def send(number):
        sent.append((number, round(clock.monotonic() - started, 6)))
        clock.advance(cost)

    found = send_open_loop(due, send, monotonic=clock.monotonic, wait=clock.advance, give_up=give_up)
    return found, sent


def test_each_is_sent_when_it_is_due():
    found, sent = run([0.0, 0.25, 1.0])
    assert [number for number, _ in sent] == [0, 1, 2]
    assert [at for _, at in sent] == pytest.approx([0.0, 0.25, 1.0], abs=0.001)
    assert (found.count, found.cut_short) == (3, False)
    assert found.late_seconds_max < 0.001


def test_what_is_late_is_sent_at_once_and_the_lateness_is_told():
    found, sent = run([0.0, 0.1, 0.2, 3.0], cost=0.5)
    assert [at for _, at in sent] == pytest.approx([0.0, 0.5, 1.0, 3.0], abs=0.001)
    assert found.late_seconds_max == pytest.approx(0.8, abs=0.001)


def test_it_ends_early_when_told_to():
    asked = []

    def give_up():
        asked.append(1)
        return len(asked) == 3

    found, sent = run([number * 0.2 for number in range(50)], give_up=give_up)
    assert found.cut_short
    assert found.count == len(sent) < 5

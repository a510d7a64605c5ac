"""Calls of the Kafka client that have no limit of their own get one."""

import threading

import pytest

from infra.kafka.connection import within
from infra.ports import Fatal, RetryLater


def test_a_call_is_made_once_and_is_over_when_it_returns():
    made = []
    within(30.0, lambda: made.append(threading.current_thread()), "commit")
    assert len(made) == 1


def test_what_a_call_raises_is_raised_where_it_was_asked_for():
    def fails():
        raise Fatal("broken for good")

    with pytest.raises(Fatal, match="broken for good"):
        within(30.0, fails, "commit")


def test_a_call_that_does_not_return_is_left_behind():
    free, begun = threading.Event(), threading.Event()

    def hangs():
        begun.set()
        free.wait(60)

    with pytest.raises(RetryLater, match=r"leaving the group: no answer within 0\.1 s"):
        within(0.1, hangs, "leaving the group")
    assert begun.wait(30)
    free.set()

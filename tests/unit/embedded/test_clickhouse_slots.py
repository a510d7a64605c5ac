import threading

import pytest

from infra.embedded import clickhouse_slots
from infra.embedded.clickhouse_slots import SessionBusy, Sessions, Slots, TooManyQueries


class KeptConnection:
    def __init__(self):
        self.closed = False

    def close(self):
        self.closed = True


def test_more_than_may_wait_are_turned_away():
    slots = Slots("queries", running_max=1, waiting_max=0, wait_s=0)
    with slots.slot(), pytest.raises(TooManyQueries, match="no more may wait"), slots.slot():
        pass
    with slots.slot():
        pass


def test_a_wait_is_bounded_and_a_freed_slot_is_taken():
    slots = Slots("queries", running_max=1, waiting_max=1, wait_s=0.01)
    with slots.slot(), pytest.raises(TooManyQueries, match="ran for all of"), slots.slot():
        pass
    patient = Slots("queries", running_max=1, waiting_max=1, wait_s=30)
    done = threading.Event()

    def wait():
        with patient.slot():
            done.set()

    with patient.slot():
        waiter = threading.Thread(target=wait)
        waiter.start()
    waiter.join(30)
    assert done.is_set()


def test_a_session_keeps_its_connection_until_it_is_idle_for_too_long():
    now = [0.0]
    sessions = Sessions(monotonic=lambda: now[0])
    kept = KeptConnection()
    with sessions.borrow("s") as nothing:
        assert nothing is None
    sessions.keep("s", kept, idle_s=10)
    now[0] = 9
    with sessions.borrow("s") as connection:
        assert connection is kept
        with pytest.raises(SessionBusy), sessions.borrow("s"):
            pass
    now[0] = 18
    with sessions.borrow("s") as connection:
        assert connection is kept
    now[0] = 29
    with sessions.borrow("s") as connection:
        assert connection is None
    assert kept.closed


def test_a_session_has_one_first_statement_at_a_time():
    sessions = Sessions()
    kept = KeptConnection()
    with sessions.borrow("s") as nothing:
        assert nothing is None
        with pytest.raises(SessionBusy), sessions.borrow("s"):
            pass
        with sessions.borrow("another") as nothing_either:
            assert nothing_either is None
        sessions.keep("s", kept)
        with pytest.raises(SessionBusy), sessions.borrow("s"):
            pass
    with sessions.borrow("s") as connection:
        assert connection is kept
        sessions.drop("s")
    assert kept.closed
    with pytest.raises(ValueError, match="failed"), sessions.borrow("s"):
        raise ValueError("failed")
    with sessions.borrow("s") as nothing:
        assert nothing is None


def test_sessions_are_bounded_and_the_longest_idle_goes(monkeypatch):
    monkeypatch.setattr(clickhouse_slots, "SESSIONS_MAX", 2)
    now = [0.0]
    sessions = Sessions(monotonic=lambda: now[0])
    made = [KeptConnection() for _ in range(3)]
    for index, connection in enumerate(made):
        now[0] = float(index)
        sessions.keep(str(index), connection)
    assert [connection.closed for connection in made] == [True, False, False]
    sessions.drop("1")
    sessions.close()
    assert all(connection.closed for connection in made)

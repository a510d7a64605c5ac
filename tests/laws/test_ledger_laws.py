"""A book against a plain count: in whatever order the topics come, and wherever it is stopped and restored."""

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from infra.up.traffic import REQUEST_DEAD_LETTERS
from schemas.topics import PREDICTIONS
from stream_jobs.ledger import partition_ledger
from stream_jobs.ledger.partition_ledger import BookStart, PartitionLedger
from tests.draws import any_of
from tests.ledger_records import CLUSTER, T0, TOPIC, asked, dead_letter, predicted

SCENARIOS = st.sampled_from(["search", "ads", "feed", None])
OUTCOMES = st.sampled_from(["answered", "answered", "answered", "failed", "shed", "dead_lettered", "owed"])


@st.composite
def histories(draw):
    """Requests with what became of each, answers again and dead letters again, in three logs."""
    start, offset = draw(st.integers(0, 5)), 0
    requests, answers, letters = [], [], []
    for _ in range(draw(st.integers(0, 40))):
        offset += draw(st.sampled_from([1, 1, 1, 1, 3]))  # a transaction leaves markers between records
        timeout = draw(st.sampled_from([{}, {}, {"timeout_ms": 50}]))
        request = asked(offset, scenario=draw(SCENARIOS), at_ms=T0 + offset, **timeout)
        requests.append(request)
        scenario = _scenario(request)
        for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
            outcome = draw(OUTCOMES if scenario else st.sampled_from(["dead_lettered", "owed"]))
            if outcome == "dead_lettered":
                letters.append((offset, request))
            elif outcome != "owed":
                at_ms = request.timestamp_ms + draw(st.sampled_from([0, 49, 50, 51, 400]))
                answers.append((offset, outcome, scenario, at_ms))
    answers = draw(st.permutations(answers)) if draw(st.booleans()) else answers
    end = offset + 1
    predictions = [
        predicted(n, at, outcome=how, scenario=name, at_ms=ms) for n, (at, how, name, ms) in enumerate(answers)
    ]
    deaths = [dead_letter(n, request) for n, (_, request) in enumerate(letters)]
    return start, end, (requests, predictions, deaths)


def _scenario(request):
    return "" if request.value.startswith(b"\xff") else json.loads(request.value)["scenario"]


def plain_count(start, requests, predictions, deaths):
    """The account by hand: the first answer of the log counts, and an answer counts before a dead letter."""
    fates, times = {}, {}
    for one in predictions:
        offset = json.loads(one.value)["request"]["offset"]
        if offset not in fates:
            fates[offset], times[offset] = one.headers[0][1].decode().split(".")[2], one.timestamp_ms
    for one in deaths:
        fates.setdefault(int(dict(one.headers)["__connect.errors.offset"]), "dead_lettered")
    by_scenario, owed = {}, []
    for one in requests:
        if one.offset >= start:
            counts = by_scenario.setdefault(_scenario(one), Counter())
            counts["asked"] += 1
            if one.offset in fates:
                counts[fates[one.offset]] += 1
                waited_ms = times.get(one.offset, 0) - one.timestamp_ms
                counts["late"] += fates[one.offset] == "answered" and b"timeout_ms" in one.value and waited_ms > 50
            else:
                counts["owed"] += 1
                owed.append(one.offset)
    return by_scenario, owed


def read(ledger, logs, data, restarts=True):
    """Read all three logs to their ends, in pieces of any order; stop and restore anywhere."""
    while True:
        left = [log for log, place in zip(logs, places(ledger), strict=True) if any(r.offset >= place for r in log)]
        if not left:
            return ledger
        log = any_of(data, left)
        place = places(ledger)[[one is log for one in logs].index(True)]
        waiting = [record for record in log if record.offset >= place]
        ledger.fold(waiting[: data.draw(st.integers(1, 6))])
        if restarts and data.draw(st.booleans()):
            pages = ledger.pages()
            ledger = PartitionLedger(CLUSTER, TOPIC, 0, BookStart(0, 0, 0))
            ledger.restore(pages)


def places(ledger):
    return list(ledger.positions.values())


def counted(ledger, end):
    told = ledger.told(1, end)
    names = ("asked", "answered", "failed", "shed", "dead_lettered", "owed", "late")
    rows = {one.scenario: Counter({name: getattr(one, name) for name in names}) for one in told.scenarios}
    return told, {name: +row for name, row in rows.items() if row["asked"]}


@given(history=histories(), data=st.data(), saved=st.integers(0, 5))
def test_any_order_and_any_restart_gives_the_account_of_a_plain_count(history, data, saved):
    start, end, logs = history
    expected, owed = plain_count(start, *logs)
    before, partition_ledger.HELD_SAVED = partition_ledger.HELD_SAVED, saved
    try:
        ledger = PartitionLedger(CLUSTER, TOPIC, 0, BookStart(start, 0, 0))
        ledger = read(ledger, logs, data)
    finally:
        partition_ledger.HELD_SAVED = before
    told, found = counted(ledger, end)
    assert found == {name: +row for name, row in expected.items()}
    oldest = [one.oldest_offset for one in told.scenarios if one.owed]
    assert min(oldest, default=None) == min(owed, default=None)
    oldest_ms = [one.oldest_ms for one in told.scenarios if one.oldest_ms is not None]
    assert min(oldest_ms, default=None) == (T0 + owed[0] if owed else None)
    total = sum(row["asked"] for row in found.values())
    assert total + told.absent == max(0, ledger.next_offset - start)


@given(history=histories(), data=st.data())
def test_order_and_restarts_change_nothing_that_is_told(history, data):
    start, end, logs = history
    once = PartitionLedger(CLUSTER, TOPIC, 0, BookStart(start, 0, 0))
    for log in logs:
        once.fold(log)
    other = read(PartitionLedger(CLUSTER, TOPIC, 0, BookStart(start, 0, 0)), logs, data)
    assert other.told(1, end) == once.told(1, end)


@given(history=histories(), data=st.data())
def test_when_what_is_gone_is_found_to_be_so_changes_no_count(history, data):
    """Answers may be read before or after their requests count as expired: of a worker that had read them in time, or
    since a broker holds again what was deleted."""
    start, end, logs = history
    expected, _ = plain_count(start, *logs)
    ledger, kept, left = PartitionLedger(CLUSTER, TOPIC, 0, BookStart(start, 0, 0)), 0, list(logs)
    while any(left):
        log = any_of(data, [log for log in left if log])
        count = data.draw(st.integers(1, 6))
        ledger.fold(log[:count])
        left = [log[count:] if one is log else one for one in left]
        if data.draw(st.booleans()):
            kept = data.draw(st.integers(kept, end))
            left[0] = [one for one in left[0] if one.offset >= kept]
            ledger.note_first_kept(kept)
            ledger.expire()
        if data.draw(st.booleans()):
            pages = ledger.pages()
            ledger = PartitionLedger(CLUSTER, TOPIC, 0, BookStart(0, 0, 0))
            ledger.restore(pages)
    ledger.expire()
    told = ledger.told(1, end)
    for name in ("answered", "failed", "shed", "dead_lettered"):
        assert sum(getattr(one, name) for one in told.scenarios) == sum(row[name] for row in expected.values()), name
    ends = sum(one.answered + one.failed + one.shed + one.dead_lettered for one in told.scenarios)
    assert sum(one.asked - one.expired - one.owed for one in told.scenarios) == ends
    assert all(one.expired >= 0 for one in told.scenarios)


@given(history=histories(), data=st.data(), kept=st.integers(0, 60))
def test_what_retention_takes_before_its_end_is_expired_and_the_sum_holds(history, data, kept):
    start, end, logs = history
    kept = min(kept, end)
    ledger = PartitionLedger(CLUSTER, TOPIC, 0, BookStart(start, 0, 0))
    read_first = data.draw(st.integers(0, len(logs[0])))
    ledger.fold(logs[0][:read_first])
    logs = ([one for one in logs[0] if one.offset >= kept], *logs[1:])
    ledger.note_first_kept(kept)
    ledger = read(ledger, logs, data)
    ledger.expire()
    told = ledger.told(1, end)
    sums = {name: sum(getattr(one, name) for one in told.scenarios) for name in ("asked", "expired", "owed")}
    ended = sum(one.answered + one.failed + one.shed + one.dead_lettered for one in told.scenarios)
    assert sums["asked"] == ended + sums["expired"] + sums["owed"]
    assert all(one.oldest_offset >= kept for one in told.scenarios if one.owed)
    again = ledger.told(1, end)
    ledger.expire()
    assert ledger.told(1, end) == again


@given(history=histories(), data=st.data(), first=st.integers(0, 60))
def test_where_retention_took_answers_the_account_still_adds_up_and_what_they_ended_is_expired(history, data, first):
    start, end, (requests, predictions, deaths) = history
    ledger = PartitionLedger(CLUSTER, TOPIC, 0, BookStart(start, 0, 0))
    for log in (requests, predictions, deaths):
        ledger.fold(log[: data.draw(st.integers(0, len(log)))])
    kept = [data.draw(st.integers(0, len(log))) for log in (predictions, deaths)]
    known = counted(ledger, end)[1]
    first = min(first, end)
    ledger.lose_answers(first, {(PREDICTIONS.name, 0): kept[0], (REQUEST_DEAD_LETTERS, 0): kept[1]})
    ledger = read(ledger, (requests, predictions[kept[0] :], deaths[kept[1] :]), data)
    ledger.expire()
    told = ledger.told(1, end)
    sums = {name: sum(getattr(one, name) for one in told.scenarios) for name in ("asked", "expired", "owed")}
    ended = sum(one.answered + one.failed + one.shed + one.dead_lettered for one in told.scenarios)
    assert sums["asked"] == ended + sums["expired"] + sums["owed"]
    assert sums["asked"] >= sum(one.offset >= start for one in requests), "those that were asked stay asked"
    assert ended >= sum(row[how] for row in known.values() for how in ("answered", "failed", "shed"))
    assert all(one.oldest_offset >= first for one in told.scenarios if one.owed)

"""Series that are parked come back exact: the bound on memory changes nothing that is said, over restarts too."""

import json
from functools import cache
from itertools import count
from random import Random
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.windows import HISTOGRAMS, PartialSeries, PartialWindowsClosed, SeriesKey, Sketch
from stream_jobs import parked_series
from stream_jobs.page_shelf import PageShelf
from stream_jobs.pages import COLD
from stream_jobs.parked_series import OPEN, SERIES_PER_PAGE, SLACK_PAGES, Parked, ParkedSeries
from stream_jobs.partition_runner import StageSpec, restored
from stream_jobs.settings import JobSettings
from stream_jobs.stage import Limit
from stream_jobs.state_log import PartitionState
from stream_jobs.window_rows import name_of
from stream_jobs.window_stage import WindowStage
from tests.latency_windows import Work
from tests.laws.test_state_log_laws import MemoryStore
from tests.sketches import buckets_of
from tests.telemetry_events import T0, record, stored

LENGTH = 10_000
SETTINGS = JobSettings(
    series_max=1_000, idle_seconds=30, learning_windows=3, reference_windows=3, requests_min=5, oom_min=1
)
KEYS = [
    SeriesKey(model=model, version=version, scenario=scenario)
    for scenario in ("search", "shop")
    for model in ("mini", "maxi")
    for version in ("1", "2", "10")
]


def sketch(value, count):
    return Sketch(bucket=buckets_of([value]).tolist(), count=[count], sum=value * count, min=value, max=value)


@cache
def latencies():
    rng = np.random.default_rng(1)
    return [Work(requests=20, queue=float(queue)).sums(rng) for queue in (5, 10, 20, 40, 400) for _ in range(4)]


def partial_series(key, random):
    answered, failed = random.randint(3, 40), random.choice([0, 0, 0, 1, 9])
    value = random.choice([1.0, 1.0, 1.0, 20.0]) * random.lognormvariate(4.0, 0.2)
    bins = {name: [random.randint(0, 30) for _ in edges[:6]] for name, edges in HISTOGRAMS.items()}
    return PartialSeries(
        key=key,
        answered=answered,
        failed=failed,
        tokens=answered * 6,
        padded_tokens=answered * 8,
        out_of_memory=random.choice([0, 0, 0, 0, 2]),
        repeated=random.choice([0, 0, 0, 5]),
        memory_bytes_max=random.randint(1, 10**9),
        total_ms=sketch(value, answered),
        queue_ms=sketch(value / 4, answered),
        compute_ms=sketch(value / 2, answered),
        latency=random.choice(latencies()),
        **bins,
    )


def log_of(seed, windows):
    """Records: each series has requests for a while, then none for a while."""
    random = Random(seed)
    lasts = {name_of(key): random.randint(-20, 20) for key in KEYS}
    there = []
    for _ in range(windows):
        for name, last in lasts.items():
            lasts[name] = last - 1 if last > 0 else last + 1 if last < -1 else random.choice([-25, -12, 3, 6, 12])
        there.append([key for key in KEYS if lasts[name_of(key)] > 0])
    return log_with(there, random)


def log_with(there, random):
    """Records: a window after the other, with these series in each."""
    records = []
    for number, keys in enumerate(there):
        found = [partial_series(key, random) for key in keys]
        start = T0 + number * LENGTH
        event = PartialWindowsClosed(
            source_topic_id="telemetry-1",
            source_partition=0,
            window_start_ms=start,
            window_end_ms=start + LENGTH,
            closed_through_ms=start + LENGTH,
            first_offset=number,
            next_offset=number + 1,
            chunk=0,
            chunks=1,
            series=found,
        )
        records.append(record(event, number, start + LENGTH, topic="inference.windows"))
    return records


def stage(series_max=1_000, parked_max=1_000):
    chosen = SETTINGS.model_copy(update={"series_max": series_max, "parked_series_max": parked_max})
    return WindowStage(chosen, partition=0, source_topic_id="telemetry-1", source_partitions=1, new_shelf=PageShelf)


def said(effects):
    """Comparable to the bit, but for what is said of the bound itself."""
    rows = {table: stored(effects, table) for table in effects.rows}
    events = [one for one in effects.events if b"series.bound_reached" not in dict(one.headers)["ce_type"]]
    return json.dumps(rows, sort_keys=True), events, effects.limits.keys() - {Limit.LIVE_SERIES}


def saved_into(pages, stage):
    for name, page in stage.dirty_pages().items():
        if page is None:
            del pages[name]
        else:
            assert not name.startswith(COLD) or name not in pages, "a parked page is written once"
            pages[name] = page
    stage.mark_clean()
    assert pages == stage.all_pages()


@pytest.fixture(scope="module")
def small_pages():
    """A page is full with two series, else none would be."""
    with patch.object(parked_series, "SERIES_PER_PAGE", 2):
        yield


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), data=st.data())
@pytest.mark.usefixtures("small_pages")
def test_a_bound_on_series_in_memory_changes_nothing_that_is_said_of_them(seed, data):
    records = log_of(seed, 70)
    whole, expected, most = stage(), [], 1
    for one in records:
        live = whole._book.live
        active = set(live.active)
        expected.append(said(whole.apply(one)))
        active.update(name for name, series in live.items() if series.last_ms == one.timestamp_ms)
        most = max(most, len(active))
    bounded, pages, parked = stage(most), {}, 0
    for number, one in enumerate(records):
        effects = bounded.apply(one)
        assert said(effects) == expected[number]
        assert len(bounded._book) <= most
        parked += effects.limits.get(Limit.LIVE_SERIES, 0)
        if data.draw(st.integers(0, 3)) == 0:
            saved_into(pages, bounded)
            if data.draw(st.booleans()):
                bounded = stage(most)
                bounded.restore(pages, number + 1)
                assert dict(bounded.all_pages()) == pages
    assert len(whole._book) <= most or parked, "nothing was parked: the test shows nothing"


def test_a_version_borrows_of_one_that_is_parked():
    old, new = (SeriesKey(model="mini", version=version, scenario="search") for version in "12")
    one_more, other = (SeriesKey(model="mini", version="1", scenario=scenario) for scenario in ("ads", "shop"))
    there = [*40 * [[old]], *5 * [[]], *5 * [[one_more, other]], *5 * [[other]], *30 * [[new, other]]]
    whole, bounded = stage(), stage(2)
    for number, one in enumerate(log_with(there, Random(1))):
        assert said(bounded.apply(one)) == said(whole.apply(one))
        assert (name_of(old) in bounded._book.live.parked) == (number >= 45)
    watched = bounded._book.series(name_of(new)).metrics["total_ms_p95"]
    assert watched.first is None
    assert watched.learnt > 30, "what the old version learnt counts"


def test_one_series_too_many_with_requests_rests_early_and_is_told():
    bounded = stage(2)
    found = [bounded.apply(one) for one in log_of(5, 40)]
    assert sum(one.limits.get(Limit.ACTIVE_SERIES, 0) for one in found) > 10
    assert not any(Limit.KNOWN_SERIES in one.limits for one in found)
    told = [
        json.loads(event.value) for one in found for event in one.events if b"bound" in dict(event.headers)["ce_type"]
    ]
    assert told[0]["live_max"] == 2
    assert told[0]["live"] == 2
    assert all(len(one["series"]) and one["rested_early"] + one["parked"] for one in told)


@pytest.mark.usefixtures("small_pages")
def test_parked_series_go_from_owner_to_owner_through_the_compacted_topic():
    store, owners, records = MemoryStore(), count(), log_of(3, 120)

    def new_state(partition):
        return PartitionState(
            store, partition, owner=f"{next(owners):08x}", source="log", digest="d", new_shelf=PageShelf
        )

    spec = StageSpec("inference.windows", "log", "d", lambda partition: stage(5), new_state)
    alone, state = stage(5), new_state(0)
    owned, parked = restored(spec, 0, state, 0), 0
    for number, one in enumerate(records):
        effects = alone.apply(one)
        assert said(owned.apply(one)) == said(effects)
        parked += effects.limits.get(Limit.LIVE_SERIES, 0)
        if number % 5 == 4:
            state.write(owned.dirty_pages(), owned.next_offset)
            owned.mark_clean()
            store.compact(tombstones=number % 2 == 0)
        if number % 15 == 14:
            state = new_state(0)
            owned = restored(spec, 0, state, None)
            assert owned.next_offset == number + 1
    assert parked > 30
    assert any(f"|page|{COLD}".encode() in record.key for record in store.records), "no page was ever full"


@settings(max_examples=60, deadline=None)
@given(data=st.data(), bound=st.sampled_from([3, 60, 10_000]))
def test_parked_series_are_a_dictionary_that_forgets_only_above_its_bound(data, bound):
    random = Random(data.draw(st.integers(0, 2**32)))
    parked, shelf = ParkedSeries({}, bound), {}
    known, live, saved, serial = {}, {}, {}, 0
    keys = [SeriesKey(model="m", version=str(n), scenario="s" * random.choice([1, 200])) for n in range(200)]
    for _ in range(data.draw(st.integers(1, 900))):
        key = random.choice(keys)
        name = name_of(key)
        if name in known and random.random() < 0.7:
            assert parked.take(name) == known.pop(name)
            serial += 1
            live[name] = serial
        elif name not in known:
            serial += 1
            live.pop(name, None)
            known[name] = random.randbytes(random.choice([1, 50, 20_000]))
            gone = parked.park(Parked(key, serial, known[name]))
            assert len(gone) == len(set(gone))
            assert (len(known) > bound) == bool(gone)
            for one in gone:
                del known[one]
        assert len(parked) == len(known)
        if random.random() < 0.02:
            for group in parked.changed:
                saved.pop(group, None)
                saved.update((group, page) for page in parked.page(group))
            parked.changed.clear()
            assert set(saved) == set(parked.groups())
            copies = sum(len(page.split(b"\n")[0].split(b"],[")) for page in saved.values())
            assert copies <= 2 * len(known) + (SLACK_PAGES + 2) * SERIES_PER_PAGE
            if random.random() < 0.5:
                parked, shelf = ParkedSeries(shelf, bound), {}
                for group in sorted(saved, key=lambda one: (one == OPEN, len(one), one)):
                    list(parked.restore(group, saved[group], live))
    assert {name: parked.take(name) for name in known} == known


@pytest.mark.parametrize("page", [b"", b"\n", b"[]\n", b"[2]\n", b'[1,["s","m","1",3,9]]\nshort', b'[1,["s","m",1]]\n'])
def test_a_broken_page_is_refused(page):
    with pytest.raises(ValueError):
        list(ParkedSeries({}, 10).restore(f"{COLD}1", page, {}))


def test_a_shelf_is_a_dictionary_on_disk():
    shelf = PageShelf()
    shelf["a"], shelf["b"] = b"1" * 300_000, b"\x00"
    shelf["a"] = b"2"
    assert dict(shelf) == {"a": b"2", "b": b"\x00"}
    assert len(shelf) == 2
    del shelf["a"]
    for missing in ("a", "c"):
        with pytest.raises(KeyError):
            del shelf[missing]
        with pytest.raises(KeyError):
            shelf[missing]

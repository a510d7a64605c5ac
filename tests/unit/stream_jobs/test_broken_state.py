"""A state that was cut, altered or written by another version: what it costs, and that an event says so."""

import json
from itertools import count

import orjson
import pytest

from schemas.anomalies import ANOMALY_KINDS, DetectorsRenewed
from schemas.base import decode
from schemas.windows import SeriesKey
from stream_jobs import partition_runner
from stream_jobs.entry_pages import Entry, pack_entries, unpack_entries
from stream_jobs.pages import pack
from stream_jobs.partition_runner import StageSpec, restored
from stream_jobs.request_log import AnyRequests
from stream_jobs.request_stage import RequestStage
from stream_jobs.settings import JobSettings
from stream_jobs.stage import Limit
from stream_jobs.state_log import PartitionState
from stream_jobs.window_stage import WindowStage
from tests.alert_events import changed
from tests.laws.test_state_log_laws import MemoryStore
from tests.telemetry_events import T0, record, served, stored, ticked
from tests.unit.stream_jobs.test_window_stage import KEY, partial, series

OTHER = SeriesKey(model="mini", version="1", scenario="shop")
WINDOWS = 30


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    """What is counted of states that a take-over could not use, by topic and part."""
    found = {}

    class Counter:
        def labels(self, *labels):
            self.label = labels
            return self

        def inc(self, number):
            found[self.label] = found.get(self.label, 0) + number

    monkeypatch.setattr(partition_runner, "STATE_RENEWED", Counter())
    return found


class Job:
    """Owners of one partition, one after the other, on a compacted topic."""

    def __init__(self, new_stage, topic):
        self.store, self._new_stage, self._topic, self._owners = MemoryStore(), new_stage, topic, count()
        self.digest, self.alerts, self.stage = "d", [], None
        self.take_over()

    def take_over(self):
        def new_state(partition):
            owner = f"{next(self._owners):08x}"
            return PartitionState(self.store, partition, owner=owner, source="log", digest=self.digest)

        def recover(stage, partition):
            if hasattr(stage, "adopt"):
                stage.adopt(self.alerts)

        self.state = new_state(0)
        spec = StageSpec(self._topic, "log", self.digest, lambda _: self._new_stage(), new_state, recover=recover)
        self.stage = restored(spec, 0, self.state, 0)
        return self.stage

    def save(self):
        self.state.write(self.stage.dirty_pages(), self.stage.next_offset)
        self.stage.mark_clean()

    def rewrite(self, change):
        """Save the pages as `change` makes them: whole and with the right sum, but not what they were."""
        pages = {name: change(name, page) for name, page in self.stage.all_pages().items()}
        self.state.write(pages, self.stage.next_offset)

    def cut(self):
        """Take 5 bytes of the last page that was written."""
        at = max(n for n, one in enumerate(self.store.records) if b"|page|" in one.key and one.value)
        one = self.store.records[at]
        self.store.records[at] = type(one)(*(one.topic, one.partition, one.offset, 0, one.key, one.value[:-5]))


def window_job(**values):
    def new_stage():
        return WindowStage(JobSettings(**values), partition=0, source_topic_id="telemetry-1", source_partitions=1)

    job = Job(new_stage, "inference.windows")
    for window in range(WINDOWS):
        give(job, window)
    job.save()
    return job


def give(job, window, slow=()):
    found = [series(900.0 if key in slow else 100.0, key=key) for key in (KEY, OTHER)]
    message = partial(window, *found)
    return job.stage.apply(record(message, window, message.closed_through_ms, topic="inference.windows"))


def told(effects):
    found = [decode(one.headers, one.value, ANOMALY_KINDS).data for one in effects.events if one.topic != "alerts"]
    return [one for one in found if isinstance(one, DetectorsRenewed)]


def scored(effects):
    """Windows that each series' detector has learnt, or what its score says of that."""
    rows = effects.rows["window_scores_stored"]
    found = zip(rows["scenario"], rows["metric"], rows["confidence"], strict=True)
    return {(scenario, metric): confidence > 0.0 for scenario, metric, confidence in found}


def entries_changed(job, change):
    """Alters the entry of KEY, its values and its numbers, in the pages of series."""

    def altered(name, page):
        if not name.startswith("series-"):
            return page
        entries = [Entry(one.plain, dict(one.numbers)) for one in unpack_entries([page])]
        for entry in entries:
            if entry.plain["key"]["scenario"] == KEY.scenario:
                change(entry.plain, entry.numbers)
        (packed,) = pack_entries(entries, job.stage._book.live.states.columns)
        return packed

    return altered


def test_what_is_whole_is_taken_over_without_a_word(counted):
    job = window_job()
    job.take_over()
    assert told(give(job, WINDOWS)) == []
    assert sum(counted.values()) == 0


@pytest.mark.parametrize("how", ["cut", "format", "digest"])
def test_a_whole_state_that_cannot_be_used_is_learnt_anew_and_an_event_says_why(how, counted):
    job = window_job()
    if how == "cut":
        job.cut()
    elif how == "format":
        job.rewrite(lambda name, page: b'{"format":9,"entries":[]}' if name.startswith("budget") else page)
        job.rewrite(lambda name, page: b'{"format":9,"entries":[]}' if name.startswith("progress") else page)
    else:
        job.digest = "of 12 partitions"
    job.take_over()
    job.save()
    job.take_over()  # what was not said yet outlives a restart
    effects = give(job, WINDOWS)
    (event,) = told(effects)
    reason = {"cut": "passed over", "format": "not of format", "digest": "of another configuration"}[how]
    assert reason in event.reason
    assert (event.count, event.series, event.partition) == (0, [], 0)
    assert effects.limits[Limit.DETECTOR_STATES] == 1
    assert counted == {("inference.windows", "all"): 1, ("inference.windows", "part"): 0}
    assert not any(scored(effects).values())
    assert told(give(job, WINDOWS + 1)) == []


@pytest.mark.parametrize(
    ("change", "reason", "lost"),
    [
        (lambda plain, _: plain["detectors"].update(total_ms_p95=[1]), "trigger total_ms_p95 of search/mini/1", 1),
        (lambda plain, _: plain["detectors"].update(total_ms_p95={"level": "high"}), "trigger total_ms_p95", 1),
        (lambda plain, _: plain["incidents"].update(total_ms_p95={"no": 1}), "incident of total_ms_p95", 1),
        (lambda _, numbers: numbers.update(counts=b"12345678"), "triggers of search/mini/1", 12),
        (lambda _, numbers: numbers.update(latency=b"12"), "causes of latency of search/mini/1", 1),
        (lambda plain, _: plain.update(place=-1), "search/mini/1", None),
        (lambda plain, _: plain.pop("at_rest"), "search/mini/1", None),
        (lambda plain, _: plain["key"].pop("model"), "a series", None),
        (
            lambda plain, _: plain.update(key={"scenario": OTHER.scenario, "model": "mini", "version": "1"}),
            "twice",
            None,
        ),
    ],
)
def test_a_broken_part_costs_that_part_or_that_series_alone(change, reason, lost, counted):
    job = window_job()
    job.rewrite(entries_changed(job, change))
    job.take_over()
    effects = give(job, WINDOWS)
    (event,) = told(effects)
    assert reason in event.reason
    assert event.count == effects.limits[Limit.DETECTOR_STATES] == (lost or 3)
    assert counted == {("inference.windows", "all"): 0, ("inference.windows", "part"): 1}
    known = scored(effects)
    assert known["shop", "total_ms_p95"] == (reason != "twice" or known["shop", "total_ms_p95"])
    assert known["search", "total_ms_p95"] == (lost is not None)


def test_an_incident_whose_state_is_broken_is_ended_and_one_that_goes_on_is_left_alone():
    job, changes = window_job(), []
    for window in range(WINDOWS, WINDOWS + 4):
        effects = give(job, window, slow=(KEY, OTHER))
        changes += [json.loads(one.value) for one in effects.events if one.topic == "alerts"]
    opened = {one["series"]["scenario"]: one["incident_id"] for one in changes if one["status"] == "open"}
    assert set(opened) == {"search", "shop"}
    keys = {"search": KEY, "shop": OTHER}
    job.alerts = [changed(opened[name], 0, "open", T0, series=keys[name].model_dump()) for name in opened]
    job.rewrite(entries_changed(job, lambda plain, _: plain["incidents"].update(total_ms_p95={"no": 1})))
    job.take_over()
    ended = [json.loads(one.value) for one in give(job, WINDOWS + 4, slow=(OTHER,)).events if one.topic == "alerts"]
    assert [(one["incident_id"], one["status"]) for one in ended] == [(opened["search"], "resolved")]


def request_job(**values):
    def new_stage():
        settings = JobSettings(row_window=20, **values)
        return RequestStage(settings, topic_id="t", partition=0, window_partitions=1, requests=AnyRequests())

    job = Job(new_stage, "inference.telemetry")
    job.stage.apply(record(served(range(60)), 0, T0))
    job.save()
    return job


@pytest.mark.parametrize(
    ("change", "reason", "lost"),
    [
        (lambda name, page: page[:-5] if name == "model-0.0" else page, "row model of search/mini", 1),
        (lambda name, page: b"HST9" + page[4:] if name.startswith("model-") else page, "belongs to other trees", 2),
        (lambda name, page: None if name == "model-1.0" else page, "row model of recommend/mini", 1),
        (lambda name, page: b'{"format":9,"entries":[]}' if name == "models.0" else page, "not of format", 0),
        (lambda name, page: pack([20, [1, 2]])[0] if name == "models.0" else page, "not a model and a scenario", 0),
        (lambda name, page: pack([30])[0] if name == "models.0" else page, "renewed every 30 requests, now 20", 0),
    ],
)
def test_row_models_that_are_broken_cost_the_row_models_alone(change, reason, lost, counted):
    job = request_job()
    job.rewrite(change)
    job.take_over()
    job.take_over()
    rows = stored(job.stage.apply(record(served(range(100)), 10**6, T0)))
    assert rows["offset"] == list(range(60, 100)), "what was seen is known"
    effects = job.stage.apply(record(ticked(), 10**6 + 1, T0 + 20_000))
    (event,) = [one for one in effects.events if one.topic == "anomaly.events"]
    event = decode(event.headers, event.value, ANOMALY_KINDS).data
    assert reason in event.reason
    assert (event.detector, event.count) == ("half_space_trees", lost)
    assert effects.limits[Limit.DETECTOR_STATES] == max(1, lost)
    assert counted == {("inference.telemetry", "all"): 0, ("inference.telemetry", "part"): 1}
    whole = [one for event in effects.events if event.topic != "anomaly.events" for one in _series(event)]
    assert sum(one["answered"] for one in whole) == 100, "and so is the open window"


def test_a_broken_state_of_stage_1_says_that_what_was_seen_is_lost_too():
    job = request_job()
    job.cut()
    job.take_over()
    job.stage.apply(record(served(range(5)), 1, T0))
    effects = job.stage.apply(record(ticked(), 2, T0 + 20_000))
    (event,) = [one for one in effects.events if one.topic == "anomaly.events"]
    reason = decode(event.headers, event.value, ANOMALY_KINDS).data.reason
    assert "which requests were seen: all is learnt anew: snapshot of epoch" in reason


def _series(event):
    return orjson.loads(event.value)["series"]

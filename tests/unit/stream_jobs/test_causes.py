"""From telemetry to what the triggers read: counted by series, kept in the state, and an alert at the end."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from schemas.base import Reason, decode
from schemas.telemetry import Outcome
from schemas.windows import HISTOGRAMS, WINDOW_KINDS
from stream_jobs.causes import OUT_OF_MEMORY, SCHEMA_REASONS, TIMEOUTS, histogram_bins, rare_of
from stream_jobs.request_log import AnyRequests
from stream_jobs.request_stage import RequestStage
from stream_jobs.settings import JobSettings
from stream_jobs.window_stage import WindowStage
from stream_jobs.windows import OUTCOMES
from tests.telemetry_events import T0, as_record, record, served, ticked

ANSWERED, FAILED, SHED, DEAD = range(4)


def which(found, name):
    return np.flatnonzero(found.get(name, np.zeros(1, dtype=bool))).tolist()


def test_causes_are_told_by_outcome_and_code():
    assert OUTCOMES == (Outcome.ANSWERED, Outcome.FAILED, Outcome.SHED, Outcome.DEAD_LETTERED)
    outcome = np.array([ANSWERED, SHED, SHED, FAILED, FAILED, FAILED, DEAD, DEAD, DEAD, SHED])
    errors = [
        *("", "expired", "over_limit", "TimeoutError", "out_of_memory", "ValueError", "not_json"),
        *("too_large", "out_of_memory", "out_of_memory"),
    ]
    found = rare_of(outcome, errors, [str(n) for n in range(10)], outcome == 9)
    assert which(found, "timed_out") == [1, 3]
    assert which(found, "out_of_memory") == [4]
    assert which(found, "schema_broken") == [6]
    assert found.keys() == {"timed_out", "out_of_memory", "schema_broken"}


def test_the_codes_are_those_that_are_sent():
    assert "expired" in TIMEOUTS
    assert "out_of_memory" in OUT_OF_MEMORY
    assert {reason.value for reason in Reason} - SCHEMA_REASONS == {"too_large", "unsupported", "refused_by_table"}


def test_an_id_that_comes_again_is_a_repeat_and_no_id_is_none():
    outcome = np.zeros(6, dtype=np.int64)
    found = rare_of(outcome, [""] * 6, ["", "a", "b", "a", "", "a"], outcome == 1)
    assert which(found, "repeated") == [3, 5]


def test_bins_hold_what_their_edges_say_and_nothing_where_there_is_nothing():
    requests = SimpleNamespace(
        outcome=np.array([ANSWERED, ANSWERED, FAILED, SHED]),
        tokens=np.array([1, 8, 40_000, 0]),
        unknown_share=np.array([0.0, 0.1, 1.0, 0.0]),
        confidence=np.array([0.95, 0.0, 0.9, 0.0]),
        output_norm=np.array([0.0, 5.0, 5.0, 0.0]),
        script=np.array([0, 2, 13, 0]),
        direction=np.array([0, 16, 3, 0]),
        inputs=np.array([1, 1, 1, 1]),
        input_bytes=np.array([15, 19, 80_000, 20]),
        truncated=np.array([False] * 4),
    )
    found = histogram_bins(requests)
    assert found["script_bins"].tolist() == [-1, 2, 13, -1]
    assert found["direction_bins"].tolist() == [-1, 16, -1, -1]
    assert found["token_bins"].tolist() == [1, 4, 15, -1]
    assert found["unknown_bins"].tolist() == [0, 4, 7, -1]
    assert found["confidence_bins"].tolist() == [9, -1, -1, -1]
    assert found["fertility_bins"].tolist() == [0, 6, 10, -1]
    assert [one >= 0 for one in found["norm_bins"].tolist()] == [False, True, False, False]
    for name, edges in HISTOGRAMS.items():
        assert list(edges) == sorted(set(edges))
        assert found[name].max() <= len(edges)


@pytest.mark.parametrize(
    ("told", "found"),
    [
        pytest.param({}, 6, id="one text"),
        pytest.param({"cached": 1.0, "batch": -1}, 6, id="from the cache: tokenised all the same"),
        pytest.param({"outcome": FAILED}, 6, id="failed after it was tokenised"),
        pytest.param({"truncated": True}, -1, id="truncated: the tokens are not all there"),
        pytest.param({"inputs": 2}, -1, id="two inputs: a query may be counted with each of them"),
        pytest.param({"inputs": 0}, -1, id="none"),
        pytest.param({"tokens": 0, "outcome": SHED}, -1, id="shed before it was tokenised"),
        pytest.param({"input_bytes": 0}, -1, id="an image or a vector: no text"),
        pytest.param({"tokens": 1, "input_bytes": 4_000_000_000}, 0, id="least"),
        pytest.param({"tokens": 4_000_000_000, "input_bytes": 1}, 11, id="most"),
    ],
)
def test_tokens_a_byte_are_those_of_one_whole_text_or_not_counted(told, found):
    one = {
        "inputs": 1,
        "input_bytes": 19,
        "tokens": 8,
        "truncated": False,
        "outcome": ANSWERED,
        "cached": 0.0,
        "batch": 0,
    }
    names = {"unknown_share": 0.0, "confidence": 0.0, "output_norm": 0.0, "script": 0, "direction": 0}
    requests = SimpleNamespace(**{name: np.array([value]) for name, value in (one | names | told).items()})
    assert histogram_bins(requests)["fertility_bins"].tolist() == [found]


class Pipeline:
    """Both stages over one partition: telemetry in, what the windows topic and the outside got."""

    def __init__(self, **values):
        settings = JobSettings(window_seconds=10, learning_windows=3, **values)
        self.first = RequestStage(
            settings, topic_id="telemetry-1", partition=0, window_partitions=1, requests=AnyRequests()
        )
        self.second = WindowStage(settings, partition=0, source_topic_id="telemetry-1", source_partitions=1)
        self.offset, self.request, self.partials, self.alerts, self.rows = 0, 0, [], [], []

    def __call__(self, window, message):
        at_ms = T0 + window * 10_000 + self.offset % 1_000
        effects = self.first.apply(record(message, self.offset, at_ms))
        self.offset += 1
        for event in effects.events:
            self.partials.append(decode(event.headers, event.value, WINDOW_KINDS).data)
            given = self.second.apply(as_record(event, len(self.partials), at_ms))
            self.rows.append(given.rows.get("windows_stored", {}))
            self.alerts += [json.loads(one.value) for one in given.events if one.topic == "alerts"]

    def window(self, number, count=60, errors=None, confidence=0.8, norm=4.0, again=0):
        """A window's telemetry; `errors`: (outcome, code) of the first requests."""
        offsets = range(self.request, self.request + count)
        self.request += count
        bad = dict(zip(offsets, errors or [], strict=False))
        event = served(offsets, outcome=lambda o: bad[o][0] if o in bad else Outcome.ANSWERED, scenario=lambda o: 0)
        requests = event.requests.model_copy(
            update={
                "error": [bad[o][1] if o in bad else "" for o in offsets],
                "confidence": [confidence] * count,
                "output_norm": [norm] * count,
            }
        )
        event = event.model_copy(update={"requests": requests})
        self(number, event)
        for _ in range(again):
            self(number, event)

    def run(self, windows=12, ill=range(6, 12), **fault):
        for number in range(windows):
            self.window(number, **(fault if number in ill else {}))
        self(windows, ticked())
        return self


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("timeout", {"errors": [(Outcome.SHED, "expired")] * 20}),
        ("timeout", {"errors": [(Outcome.FAILED, "TimeoutError")] * 20}),
        ("oom", {"errors": [(Outcome.FAILED, "out_of_memory")] * 2}),
        ("error_burst", {"errors": [(Outcome.FAILED, "ValueError")] * 20}),
        ("empty_result", {"confidence": 0.0, "norm": 0.0}),
        ("duplicate", {"again": 1}),
        ("schema_break", {"errors": [(Outcome.DEAD_LETTERED, "missing_field")] * 20}),
    ],
)
def test_a_fault_in_telemetry_becomes_an_alert_of_its_kind(kind, fault):
    # Requests that could not be read belong to no series before there are any: all of it is new, but for what is usual.
    found = Pipeline().run(windows=18, ill=range(6, 18), **fault)
    assert kind in {alert["kind"] for alert in found.alerts}, [alert["kind"] for alert in found.alerts]
    assert Pipeline().run(windows=18, ill=()).alerts == []


def test_what_is_counted_is_in_the_row_and_over_a_restart():
    whole, first = Pipeline(), Pipeline()
    fault = {"errors": [(Outcome.SHED, "expired")] * 7 + [(Outcome.FAILED, "MemoryError")] * 3, "again": 1}
    for one in (whole, first):
        one.window(0, **fault)
        one.window(0, errors=[(Outcome.DEAD_LETTERED, "not_json")] * 4)
    second = Pipeline()
    second.first.restore(first.first.all_pages(), first.first.next_offset)
    second.offset = first.offset
    for one in (whole, second):
        one(1, ticked())
    assert second.partials == whole.partials
    (rows,) = second.rows
    by_model = {model: number for number, model in enumerate(rows["model"])}
    at = by_model["mini"]
    assert (rows["timed_out"][by_model[""]], rows["out_of_memory"][at]) == (7, 3)
    assert sum(rows["repeated"]) == 60
    unread = by_model[""]
    assert (rows["schema_broken"][unread], rows["schema_share"][unread]) == (4, pytest.approx(4 / 120))
    assert sum(rows["token_bins"][at]) == 53 + 56
    assert sum(rows["confidence_bins"][at]) == 50 + 56
    # Every fifth is truncated.
    assert sum(rows["fertility_bins"][at]) == sum(o % 5 != 0 for o in range(7, 60)) + sum(
        o % 5 != 0 for o in range(64, 120)
    )


def test_a_worker_that_does_not_tell_how_sure_an_answer_is_gives_no_empty_ones():
    found = Pipeline()
    event = served(range(30))
    bare = event.requests.model_copy(update={"output_norm": [0.0] * 30})
    found(0, event.model_copy(update={"requests": bare}))
    found(1, ticked())
    assert [one.empty for partial in found.partials for one in partial.series] == [0, 0]

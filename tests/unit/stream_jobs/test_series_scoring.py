"""The default detector in stage 2: what it says beside the triggers, what it does not learn, what may alert."""

import base64
import json
import random

import pytest

from schemas.anomalies import ANOMALY_KINDS, DetectorsRenewed, ScoreKind
from schemas.base import decode
from schemas.tables import WINDOW_SCORES
from schemas.windows import SeriesKey
from stream_jobs.detectors.registry import detector_named
from stream_jobs.detectors.two_heads import TwoHeads
from stream_jobs.entry_pages import pack_entries, unpack_entries
from stream_jobs.metrics import bank_of, detector_options, scoring_of, share_of_budget
from stream_jobs.series_book import SeriesBook
from stream_jobs.settings import JobSettings
from stream_jobs.stage import Effects, Limit
from stream_jobs.window_effects import WindowEffects
from stream_jobs.window_rows import SeriesWindow, WindowId, name_of
from tests.anomaly_rows import faulty_run, rows_of

KEY = SeriesKey(model="mini", version="1", scenario="search")
T0 = 1_700_000_000_000
AS_LONG_AS_A_STATE = base64.b64encode(b"x" * len(TwoHeads().state())).decode()
ROW_BYTES = len(TwoHeads().state()) - 20


class Live:
    """A book of series, given windows of one number of milliseconds a series."""

    def __init__(self, a_week=21, **values):
        self.settings = JobSettings(**values)
        self.book = SeriesBook(scoring_of(self.settings, a_week), self.settings.series_max, 600_000)
        self.number = 0

    def __call__(self, p95, *, p50=None, key=KEY, rate=100.0, errors=0.0, complete=True):
        length = self.settings.window_ms
        window = WindowId("t", T0 + self.number * length, T0 + (self.number + 1) * length)
        self.number += 1
        found = {}
        if p95 is not None:
            values = {
                "total_ms_p95": p95,
                "total_ms_p50": 0.6 * p95 if p50 is None else p50,
                "requests_per_second": rate,
                "error_share": errors,
            }
            found[name_of(key)] = SeriesWindow(key, 1_000, 1_000, values, {}, ())
        effects, given = WindowEffects(), Effects()
        self.book.score(window, found, complete, effects)
        effects.into(given)
        return given

    def usual(self, count, seed=1):
        rng = random.Random(seed)
        return [self(100.0 * rng.lognormvariate(0, 0.1)) for _ in range(count)]

    def entries(self):
        return unpack_entries(pack_entries(self.book.live.entries(0), self.book.live.states.columns))

    def learnt(self, metric="total_ms_p95"):
        (entry,) = self.entries()
        return entry.plain["scores"][metric], entry.numbers[metric]


def scores(effects, metric="total_ms_p95"):
    rows = effects.rows["window_scores_stored"]
    at = rows["metric"].index(metric)
    return {name: column[at] for name, column in rows.items()}


def alerts(effects):
    return [json.loads(one.value) for one in effects.events if one.topic == "alerts"]


def events(effects):
    found = [one for one in effects.events if one.topic == "anomaly.events"]
    return [decode(one.headers, one.value, ANOMALY_KINDS).data for one in found]


def test_the_first_minutes_raise_nothing_and_say_that_they_learn():
    live = Live()
    first = [live(100.0 if number % 2 else 4_000.0) for number in range(6)]
    assert all(scores(one)["learning"] and scores(one)["score"] == scores(one)["confidence"] == 0.0 for one in first)
    assert not any(one.events for one in first)
    later = live.usual(20)
    assert not any(scores(one)["learning"] for one in later[1:])
    assert scores(later[-1])["detector"] == "two_heads"
    assert 0.0 < scores(later[-1])["confidence"] < 1.0


def test_a_score_is_the_share_of_its_own_past_and_names_its_onset():
    live = Live()
    live.usual(400)
    shares = [scores(one)["score"] for one in live.usual(300, seed=2)]
    assert 0.01 < sum(share >= 0.9 for share in shares) / 300 < 0.2
    assert 0.2 < sum(share >= 0.5 for share in shares) / 300 < 0.7
    slow = [live(900.0) for _ in range(4)]
    onset = {scores(one)["onset"] for one in slow}
    assert onset == {T0 + 700 * 10_000}
    assert all(scores(one)["score"] > 0.99 and scores(one)["anomalous"] for one in slow)


def test_a_score_says_whether_it_is_a_share_of_the_past_or_a_trigger_s_strength():
    run = faulty_run()
    rows = [row for effects in run.effects for row in rows_of(effects, WINDOW_SCORES)]
    of_detector = {"total_ms_p95", "error_share", "requests_per_second"}
    assert {(row["metric"] in of_detector, row["score_kind"]) for row in rows} == {(True, "rank"), (False, "strength")}
    assert all(row["score"] == row["strength"] == row["severity"] for row in rows if row["score_kind"] == "strength")
    told = [event for effects in run.effects for event in events(effects)]
    assert {event.metric for event in told if event.score.score_kind is ScoreKind.RANK} == of_detector
    assert {event.metric for event in told if event.score.score_kind is ScoreKind.STRENGTH} == {
        "out_of_memory",
        "empty_share",
    }
    assert [row["score_kind"] for row in run.anomalies()] == [event.score.score_kind.value for event in told]


def test_a_fault_is_not_learnt_while_it_lasts():
    live = Live()
    live.usual(100)
    before = live.learnt()
    slow = [live(900.0) for _ in range(30)]
    assert live.learnt() == before
    assert {round(scores(one)["expected"]) for one in slow} == {round(scores(slow[0])["expected"])}
    assert scores(slow[-1])["upper"] < 250.0


def test_a_shift_that_stays_is_the_new_normal():
    live = Live(adapt_seconds=100)
    live.usual(50)
    for _ in range(40):
        live(900.0)
    assert scores(live(905.0))["expected"] == pytest.approx(900.0, rel=0.05)


@pytest.mark.parametrize("missing", [{"p95": None}, {"p95": None, "complete": False}])
def test_windows_without_the_series_are_gaps_and_no_values(missing):
    live = Live()
    live.usual(60)
    before = live.learnt()
    for _ in range(5):
        live(**missing)
    assert live.learnt() == before
    live(100.0)
    assert live.learnt()[0] == before[0] + 1


def test_a_constant_series_has_finite_scores_and_its_first_move_is_not_hidden():
    live = Live()
    still = [live(100.0) for _ in range(60)]
    assert all(0.0 <= scores(one)["score"] <= 1.0 for one in still)
    assert not any(one.events for one in still)
    moved = [live(900.0), live(900.0)]
    assert [change["status"] for change in alerts(moved[1])] == ["open"]


def test_what_is_no_fact_alerts_while_the_budget_lasts_and_is_an_anomaly_after():
    """Only the slowest are slow, in one version after the other: the score and the budget are asked."""
    live, opened, refused, rng = Live(a_week=2), [], 0, random.Random(4)
    for version in "1234":
        key = SeriesKey(model="mini", version=version, scenario="search")
        for _ in range(30):
            live(100.0 * rng.lognormvariate(0, 0.1), key=key)
        found = [live(900.0, p50=60.0, key=key) for _ in range(9)]
        slow = [change for one in found for change in alerts(one) if change["kind"] == "latency_shift"]
        opened.append(sum(change["status"] == "open" for change in slow))
        refused += sum(one.limits.get(Limit.ALERT_BUDGET, 0) for one in found)
        told = [event for one in found for event in events(one) if event.metric == "total_ms_p95"]
        assert len(told) == 9
    assert opened == [1, 1, 0, 0]
    assert refused >= 4


def test_a_fact_alerts_although_the_budget_is_spent():
    live = Live(a_week=1)
    live.usual(30)
    for _ in range(3):
        found = [live(900.0) for _ in range(3)]
        live.usual(400)
        assert sum(change["status"] == "open" for one in found for change in alerts(one)) == 1
    failed = [live(100.0, errors=0.7)]
    assert [change["kind"] for one in failed for change in alerts(one)] == ["error_burst"]
    live.usual(10)
    silent = [live(None) for _ in range(4)]
    assert "throughput_drop" in [change["kind"] for one in silent for change in alerts(one)]


def test_once_there_is_a_past_the_score_must_agree_about_what_is_no_fact():
    """A service whose slowest are slow in every tenth window: that is usual for it, and its score says so."""
    live, rng = Live(), random.Random(3)
    for _ in range(500):
        live(900.0 if rng.random() < 0.1 else 100.0 * rng.lognormvariate(0, 0.1), p50=60.0)
    found = [live(900.0, p50=60.0)]
    assert scores(found[0])["score"] < 0.99
    assert not scores(found[0])["anomalous"]
    assert events(found[0]) == []


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda plain, numbers: plain.pop("scores"), "earlier version"),
        (lambda plain, numbers: plain.update(digest="0" * 16), "another detector"),
        (lambda plain, numbers: plain.pop("digest"), "another detector"),
        (lambda plain, numbers: plain["scores"].update(total_ms_p95=-1), "total_ms_p95 of search/mini/1: not a count"),
        (lambda plain, numbers: plain["scores"].update(total_ms_p95="5"), "not a count"),
        (lambda plain, numbers: numbers.pop("total_ms_p95"), f"0 bytes of numbers, {ROW_BYTES} expected"),
        (
            lambda plain, numbers: numbers.update(total_ms_p95=numbers["total_ms_p95"][8:]),
            f"{ROW_BYTES - 8} bytes of numbers",
        ),
        (lambda plain, numbers: numbers.update(total_ms_p95=b"\xff" * ROW_BYTES), "numbers are missing"),
        # Records of an earlier version.
        (lambda plain, numbers: plain["scores"].update(total_ms_p95=[60, "!"]), "total_ms_p95 of search/mini/1"),
        (lambda plain, numbers: plain["scores"].update(total_ms_p95=[-1, ""]), "not a count"),
        (lambda plain, numbers: plain["scores"].update(total_ms_p95=[60, AS_LONG_AS_A_STATE]), "sum"),
        (lambda plain, numbers: plain["scores"].update(total_ms_p95=[60]), "total_ms_p95"),
    ],
)
def test_a_detector_whose_record_is_broken_or_old_is_a_fresh_one_with_an_event(break_it, reason):
    live, again = Live(), Live()
    live.usual(60)
    (entry,) = live.entries()
    break_it(entry.plain, entry.numbers)
    again.book.live.restore([entry])
    again.number = live.number
    told = again(100.0)
    (event,) = events(told)
    assert isinstance(event, DetectorsRenewed)
    assert reason in event.reason
    assert (event.count, event.series) == (3 if "version" in event.reason else 1, [KEY])
    assert told.limits[Limit.DETECTOR_STATES] == event.count
    assert scores(told)["confidence"] == 0.0
    assert scores(told)["expected"] == pytest.approx(100.0, rel=0.2)  # the trigger's, which was not lost
    assert events(again(100.0)) == []
    assert len(again.learnt()[1]) == len(live.learnt()[1])


def test_another_detector_learns_anew_and_scores():
    live, other = Live(), Live(detector="gaussian_scorer")
    live.usual(60)
    other.book.live.restore(live.entries())
    other.number = live.number
    (event,) = events(other(100.0))
    assert (event.detector, event.count) == ("gaussian_scorer", 3)
    said = other.usual(200)
    assert scores(said[-1])["detector"] == "gaussian_scorer"
    assert scores(said[-1])["confidence"] > 0.0
    slow = [other(900.0) for _ in range(3)]
    assert [change["status"] for one in slow for change in alerts(one)] == ["open"]


@pytest.mark.parametrize("detector", ["two_heads", "half_space_trees", "gaussian_scorer", "adwin"])
def test_whatever_detector_is_chosen_its_state_goes_through_pages_exact(detector):
    live, again = Live(detector=detector), Live(detector=detector)
    live.usual(40)
    again.book.live.restore(live.entries())
    again.number = live.number
    assert again.entries() == live.entries()
    assert [scores(one) for one in again.usual(20, seed=2)] == [scores(one) for one in live.usual(20, seed=2)]
    assert again.book.live.states.renewed is None


def test_series_of_one_window_are_scored_as_if_alone_also_where_too_many_are_known():
    keys = [SeriesKey(model="mini", version=str(number), scenario="search") for number in range(4)]
    together = Live(series_max=3)
    rng = random.Random(5)
    for number in range(40):
        length = together.settings.window_ms
        window = WindowId("t", T0 + number * length, T0 + (number + 1) * length)
        values = {"total_ms_p95": 100 * rng.lognormvariate(0, 0.1), "total_ms_p50": 60.0}
        values |= {"requests_per_second": 100.0, "error_share": 0.0}
        of = keys if number == 39 else keys[:3]
        found = {name_of(key): SeriesWindow(key, 1_000, 1_000, values, {}, ()) for key in of}
        effects, given = WindowEffects(), Effects()
        together.book.score(window, found, True, effects)
        effects.into(given)
    rows = given.rows["window_scores_stored"]
    said = [
        (version, score)
        for version, metric, score in zip(rows["model_version"], rows["metric"], rows["score"], strict=True)
        if metric == "total_ms_p95"
    ]
    assert [version for version, _ in said] == ["0", "1", "2", "3"]
    assert len({score for _, score in said[:3]}) == 1  # series that are alike are scored alike
    assert given.limits == {Limit.LIVE_SERIES: 1, Limit.ACTIVE_SERIES: 1, Limit.KNOWN_SERIES: 1}  # nothing is parked


def test_shares_of_the_budget_sum_to_it():
    for a_week in (6, 7, 21, 100):
        for partitions in (1, 5, 6):
            shares = [share_of_budget(a_week, number, partitions) for number in range(partitions)]
            assert sum(shares) == a_week
            assert min(shares) >= 1
            assert max(shares) - min(shares) <= 1


NEW = KEY.model_copy(update={"version": "2"})


def switched(live, level, count, seed=5):
    rng = random.Random(seed)
    return [live(level * rng.lognormvariate(0, 0.1), key=NEW) for _ in range(count)]


def test_a_new_version_borrows_the_scale_raises_nothing_and_its_regression_does():
    live, alone = Live(), Live()
    live.usual(400)
    after = switched(live, 140.0, 40)
    switched(alone, 140.0, 40)
    assert [a for one in after for a in alerts(one)] == []
    old, new = (live.book.series(name_of(key)).metrics["total_ms_p95"] for key in (KEY, NEW))
    assert (new.first, alone.book.series(name_of(NEW)).metrics["total_ms_p95"].first) == (None, None)
    assert new.learnt > old.learnt > 300, "what the old version taught counts"
    usual = scores(after[-1])
    assert 100.0 < usual["expected"] < 190.0, "its level is its own"
    slow = [live(900.0, key=NEW) for _ in range(4)]
    assert [one["status"] for effects in slow for one in alerts(effects)] == ["open"]


def test_first_values_survive_a_restart_and_an_elder_that_is_forgotten_lends_nothing():
    live, again = Live(), Live()
    live.usual(400)
    switched(live, 140.0, 5)
    entries = live.entries()
    again.book.live.restore(entries)
    again.number = live.number
    assert again.entries() == entries
    assert len(again.book.series(name_of(NEW)).metrics["total_ms_p95"].first) == 5
    for one in (live, again):
        switched(one, 140.0, 20, seed=6)
    assert live.entries() == again.entries()

    lonely = Live()
    lonely.book.live.restore([entry for entry in entries if entry.plain["key"]["version"] == "2"])
    lonely.number = live.number
    switched(lonely, 140.0, 20, seed=6)
    watched = lonely.book.series(name_of(NEW)).metrics["total_ms_p95"]
    assert (watched.first, watched.learnt < 40) == (None, True)


def test_a_version_that_falls_silent_is_a_fault_unless_another_answers_what_it_did():
    def quiet_after(rate):
        live = Live()
        live.usual(100)
        told = [live(140.0, key=NEW, rate=rate) for _ in range(6)]
        return live.book.series(name_of(KEY)).at_rest, [a["kind"] for one in told for a in alerts(one)]

    assert quiet_after(rate=100.0) == (True, [])
    assert quiet_after(rate=10.0) == (False, ["throughput_drop"])


def test_two_windows_of_one_end_are_one_value_for_a_version_that_begins():
    """After a change of the windows' length partitions may tell of both."""
    live = Live()
    live.usual(400)
    for number in range(30):
        live(140.0 + number, key=NEW)
        live.number -= number % 2
    new = live.book.series(name_of(NEW)).metrics["total_ms_p95"]
    assert (new.first, new.learnt > 300) == (None, True)


def test_history_is_judged_by_the_detector_that_windows_have():
    settings = JobSettings(window_seconds=30, learning_windows=9)
    history = detector_named(settings.detector, **detector_options(settings.detector, settings))
    assert history.digest() == bank_of(settings).digest != detector_named(settings.detector).digest()
    assert detector_options("fixed_threshold", settings) == {}

"""Scores one window of many series: triggers first, then the detector over all points at once, then what alerts.

Owns detector bank and alert budget of a partition. Does not know which series there are or where they lie in pages.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from schemas.windows import SeriesKey
from stream_jobs.alert_budget import CANDIDATE_SCORE, AlertBudget
from stream_jobs.anomaly_basis import AnomalyBasis, config_text, input_text
from stream_jobs.attribution.sentence import sentence
from stream_jobs.decide import IncidentState, Observation, observe, unjudged
from stream_jobs.detector_bank import DetectorBank
from stream_jobs.detectors.borrowed_scale import FIRST_MIN
from stream_jobs.detectors.forecast_residual import Judgement
from stream_jobs.drift_words import drift_words
from stream_jobs.scored_metric import Metric, Trigger, Value, actual_of, is_nothing
from stream_jobs.stage import Limit
from stream_jobs.told_score import (
    Said,
    ToldScore,
    anomaly_event,
    anomaly_id,
    causes_of,
    digest_of,
    of_detector,
    of_trigger,
    said_of,
)
from stream_jobs.window_effects import WindowEffects
from stream_jobs.window_rows import SeriesWindow, WindowId, id_of, name_of

LEAST_SIZE = 1e-9
"""Of an incident whose detector says nothing yet: above a bar of none, below every other."""
AGREE_AFTER = 200
"""Windows learnt before a score can contradict a trigger: of fewer, 1 in 100 is one or two of them, or none."""


@dataclass(slots=True)
class Watched:
    """What is known of one metric of one series. `row` is its place in the bank; -1: no detector scores it."""

    trigger: Trigger
    incident: IncidentState = field(default_factory=IncidentState)
    row: int = -1
    learnt: int = 0
    """Windows that the detector has learnt."""
    first: list[tuple[int, float]] | None = None
    """Of a new version that may borrow its predecessor's scale: when its first windows ended, and their values."""


@dataclass(slots=True)
class Look:
    """One metric of one series in the window that is scored."""

    key: SeriesKey
    watched: Watched
    metric: Metric
    value: Value | None
    found: SeriesWindow | None
    elder: Watched | None = None
    """The same metric of the version before, while `watched.first` is collected."""
    judgement: Judgement | None = None
    outside: bool = False
    """Whether the value lies outside the trigger's band, also while the trigger is not to be heard."""
    point: int = -1
    """Number of its score among those of the window; -1: it has none."""
    before: bytes = b""
    """The detector's state before the window, of what is outside."""


class SeriesScoring:
    """Scores windows in order of time. A function of what it is given: a replay says the same."""

    def __init__(self, metrics: Iterable[Metric], bank: DetectorBank, budget: AlertBudget) -> None:
        self.metrics, self.bank, self.budget = tuple(metrics), bank, budget
        self.budget_changed = False
        """Whether the budget was asked since the owner last looked."""
        self._digests = {
            metric.name: digest_of(bank.digest, metric.policy.digest()) if metric.scored else metric.policy.digest()
            for metric in self.metrics
        }
        self._configs = {
            metric.name: config_text(metric, bank.options if metric.scored else {}) for metric in self.metrics
        }

    def digest_of(self, metric: str) -> str:
        """Hash of what scores a metric: its trigger's configuration, and the detector's where there is one."""
        return self._digests[metric]

    def watched(self) -> dict[str, Watched]:
        """What a new series begins with, by metric."""
        return {
            metric.name: Watched(metric.policy.detector(), row=self.bank.new() if metric.scored else -1)
            for metric in self.metrics
        }

    def trigger(self, name: str) -> Trigger:
        """What the trigger of a metric begins with. Raises KeyError when there is no such metric."""
        return {metric.name: metric for metric in self.metrics}[name].policy.detector()

    def drop(self, watched: Iterable[Watched]) -> None:
        """The series is forgotten."""
        for one in watched:
            if one.row >= 0:
                self.bank.drop(one.row)

    def score(self, looks: Iterable[Look], window: WindowId, effects: WindowEffects) -> None:
        """Score what a window shows, in this order."""
        looks = [look for look in looks if not self._is_no_news(look, window)]
        for look in looks:
            look.judgement = look.watched.trigger.judge(look.value, window.end_ms)
        scores = self._scores(looks, window)
        for look in looks:
            self._decide(look, scores, window, effects)

    def _is_no_news(self, look: Look, window: WindowId) -> bool:
        """What usually does not happen, and did not: nearly every window of nearly every series. It is learnt."""
        quiet = look.metric.is_rare and look.watched.incident.is_calm and is_nothing(look.value)
        if quiet:
            look.watched.trigger.learn(look.value, window.end_ms)
        return quiet

    def _scores(self, looks: Iterable[Look], window: WindowId) -> list[Said]:
        points = [look for look in looks if look.watched.row >= 0 and look.judgement is not None]
        for number, look in enumerate(points):
            assert look.judgement is not None
            look.point = number
            look.outside = _is_outside(look.judgement, look.value)
            if look.outside:
                look.before = self.bank.state(look.watched.row)
        rows = np.array([look.watched.row for look in points], dtype=np.int64)
        values = np.array([float(look.value) for look in points if look.value is not None])
        return said_of(self.bank.run(rows, np.full(len(points), window.end_ms, dtype=np.int64), values))

    def _decide(self, look: Look, scores: list[Said], window: WindowId, effects: WindowEffects) -> None:
        metric, watched, judgement = look.metric, look.watched, look.judgement
        if look.value is None or judgement is None:
            if look.value is not None:
                watched.trigger.learn(look.value, window.end_ms)
            self._unjudged(look, window, effects)
            return
        actual, digest = actual_of(judgement, look.value), self._digests[metric.name]
        if look.point >= 0:
            named = (self.bank.name, digest)
            told = of_detector(scores[look.point], judgement, metric, actual, named)
        else:
            told = of_trigger(judgement, metric, actual, digest)
        confirmed = metric.confirmed(look.found, judgement.expected, judgement.upper)
        fact = metric.is_fact(confirmed, actual)
        agreed = fact or look.point < 0 or self._agrees(watched, scores[look.point].score)
        causes = causes_of(metric, look.found)
        cause = sentence(causes) or drift_words(judgement)
        where = look.key, window.start_ms, window.end_ms
        seen = Observation(*where, actual, judgement, "", confirmed, agreed, cause)
        if seen.anomalous:
            seen = replace(seen, anomaly_id=anomaly_id(window, seen, metric.name))
        before = watched.incident.state() if seen.anomalous else {}
        change = observe(watched.incident, metric.alert, seen, lambda: self._admits(look, told, fact, window, effects))
        if seen.anomalous:
            onset_ms = watched.incident.run_onset_ms
            told = replace(told, onset_ms=onset_ms)
            event = anomaly_event(seen, told, metric, onset_ms, look.found)
            effects.anomaly(window, event, told, self._basis(look, before))
        if change is not None:
            effects.alert(change)
        effects.score(window, seen, told, metric.name)
        self._learn(look, seen, fact, window)

    def _learn(self, look: Look, seen: Observation, fact: bool, window: WindowId) -> None:
        """A window of a fault is not learnt, nor is a slow start: the detector goes on from before it.

        What is outside the band, is no fact and belongs to no incident is learnt: it may be usual for the series.
        """
        if look.point >= 0:
            fault = seen.anomalous and (fact or look.watched.incident.is_open)
            if look.outside and (fault or seen.judgement.learning):
                self.bank.restore(look.watched.row, look.before)
            else:
                look.watched.learnt += 1
                self._inherit(look, window)
        look.watched.trigger.learn(look.value, window.end_ms)

    def _inherit(self, look: Look, window: WindowId) -> None:
        """A version that begins borrows what was usual for its predecessor, see `DetectorBank.borrow`."""
        watched, elder = look.watched, look.elder
        if watched.first is None or look.value is None:
            return
        if elder is None:  # forgotten meanwhile
            watched.first = None
            return
        if watched.first and window.end_ms <= watched.first[-1][0]:
            return  # two windows of one end, after a change of their length: the detector takes no time twice
        watched.first.append((window.end_ms, float(look.value)))
        if len(watched.first) >= FIRST_MIN:
            times, values = zip(*watched.first, strict=True)
            watched.first = None
            if self.bank.borrow(watched.row, elder.row, np.array(times, dtype=np.int64), np.array(values)):
                watched.learnt = elder.learnt

    def _admits(self, look: Look, told: ToldScore, fact: bool, window: WindowId, effects: WindowEffects) -> bool:
        """Whether the budget lets an incident open. It is not asked about facts, nor charged for them."""
        if look.point < 0 or fact:
            return True
        self.budget_changed = True
        series = id_of(name_of(look.key), look.metric.name, size=8)
        admitted = self.budget.admits(series, window.end_ms, max(told.severity, LEAST_SIZE))
        effects.limit(Limit.ALERT_BUDGET, int(not admitted))
        return admitted

    def _unjudged(self, look: Look, window: WindowId, effects: WindowEffects) -> None:
        incident = look.watched.incident
        change = unjudged(incident, look.metric.alert, look.key, window.start_ms, window.end_ms)
        if change is not None:
            effects.alert(change)

    def _basis(self, look: Look, incident: dict[str, Any]) -> AnomalyBasis:
        """What recomputes it. The state is the trigger's, and the detector's where there is one."""
        state, watched = look.watched.trigger.state(), look.watched
        if look.point >= 0:
            state = {"trigger": state, "detector": base64.b64encode(look.before).decode()}
        taken = input_text(look.metric, look.value, look.found, watched.learnt, incident)
        return AnomalyBasis(state, taken, self._configs[look.metric.name])

    @staticmethod
    def _agrees(watched: Watched, score: float) -> bool:
        """Whether the score says that the window is unusual, or cannot say yet. Said of a run's first, it holds."""
        if watched.learnt < AGREE_AFTER or watched.incident.anomalous_run > 0 or watched.incident.is_open:
            return True
        return math.isnan(score) or score >= CANDIDATE_SCORE


def _is_outside(judgement: Judgement, value: Value) -> bool:
    if judgement.anomalous:
        return True
    # While the trigger learns or warms up its score is 0, and its band is there.
    rise = float(value) - judgement.expected
    half = judgement.upper - judgement.expected
    return half > 0.0 and abs(rise) > half

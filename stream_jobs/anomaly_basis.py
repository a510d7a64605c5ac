"""What an anomaly needs beside its state to be recomputed years later: what was scored, under which configuration.

Written with every anomaly, read by `inferwatch replay`. Texts are JSON, exact for the numbers in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson

from schemas.anomalies import AnomalyKind
from stream_jobs.attribution.regression import CAUSES, LatencyCauses
from stream_jobs.decide import AlertPolicy, IncidentState
from stream_jobs.scored_metric import Metric, Value
from stream_jobs.told_score import causes_of
from stream_jobs.window_rows import SeriesWindow

SCORING_FORMAT = 2
"""Raise it with any change of what triggers, detectors or decisions compute from the same numbers: a replay under
another format refuses, because a difference would say nothing. `tests/golden/anomalies.json` holds it to that."""

_CAUSES = ("actual_ms", "usual_ms", "parts_ms", "slowest_worker")
"""Of the causes of latency, what event and alert are made of."""


@dataclass(frozen=True, slots=True)
class AnomalyBasis:
    """Columns of `anomalies`. `state` is the trigger's and the detector's, before the window."""

    state: Any
    scored_input: str
    scored_config: str


@dataclass(frozen=True, slots=True)
class ScoredInput:
    """What was looked at. `confirming`: the value of the column that confirms the metric; None: none was needed, or
    the window held nothing of the series. `incident`: where it stood before the window."""

    value: Value
    is_present: bool
    confirming: float | None
    learnt: int
    incident: Mapping[str, Any]
    causes: LatencyCauses | None = None
    """What its latency was laid to: told, not recomputed, for it rests on what a regression had learnt."""


def input_text(
    metric: Metric, value: Value, found: SeriesWindow | None, learnt: int, incident: Mapping[str, Any]
) -> str:
    """A `ScoredInput` as JSON."""
    confirming = None
    if found is not None and metric.confirmed_by is not None:
        confirming = found.values[metric.confirmed_by]
    taken = {
        "value": value,
        "is_present": found is not None,
        "confirming": confirming,
        "learnt": learnt,
        "incident": incident,
    }
    causes = causes_of(metric, found)
    if causes is not None and not causes.learning:
        taken["causes"] = {name: getattr(causes, name) for name in _CAUSES}
    return orjson.dumps(taken, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode()


def input_of(text: str, metric: Metric) -> ScoredInput:
    """The inverse of `input_text`. Raises ValueError when it is broken."""
    try:
        found = orjson.loads(text)
        value = found["value"]
        if metric.cases:
            value = (value[0], value[1])
        IncidentState.restored(found["incident"])
        confirming, learnt, incident = found["confirming"], found["learnt"], found["incident"]
        return ScoredInput(value, found["is_present"], confirming, learnt, incident, _causes_of(found.get("causes")))
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"scored_input is broken: {error!r}") from None


def _causes_of(found: Any) -> LatencyCauses | None:
    """As much of them as was kept. None: none were told, or by a release that did not keep them."""
    if found is None:
        return None
    kept = {name: found[name] for name in _CAUSES}
    kept["parts_ms"] = {name: found["parts_ms"][name] for name in CAUSES}  # in their order, which shares go by
    return LatencyCauses(**kept, coefficients={}, learning=False, slowest_excess_ms=0.0)


def config_text(metric: Metric, options: Mapping[str, float]) -> str:
    """Trigger, alert policy and the detector's options as JSON. Few different ones: settings change rarely."""
    taken = {"trigger": asdict(metric.policy), "alert": asdict(metric.alert), "detector": dict(options)}  # type: ignore[call-overload]
    return orjson.dumps(taken, option=orjson.OPT_SORT_KEYS).decode()


def configured(text: str, metric: Metric) -> tuple[Metric, dict[str, float]]:
    """The metric as it was configured, and its detector's options. Raises ValueError when the text is broken, or of a
    trigger that this program does not have."""
    try:
        found = orjson.loads(text)
        alert = dict(found["alert"])
        alert["kind"] = AnomalyKind(alert["kind"])
        policy = type(metric.policy)(**found["trigger"])
        return replace(metric, policy=policy, alert=AlertPolicy(**alert)), dict(found["detector"])
    except (TypeError, KeyError) as error:
        raise ValueError(f"scored_config is not of this program's {metric.name}: {error!r}") from None

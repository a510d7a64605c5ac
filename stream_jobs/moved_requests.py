"""Requests that move between versions of a model, as in a canary or a rollback: what is usual moves with them.

Owns when they moved; a function of one window and of what was learnt before it. Knows nothing of alerts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from stream_jobs.detectors.forecast_residual import ForecastResidual
from stream_jobs.live_series import LiveSeries
from stream_jobs.window_rows import RATE, SeriesWindow, WindowId

FOUND_SHARE = 0.5
"""Of what is missing at some versions others must have so much more than usual: a canary's own share hides no fault."""
CLEAR_SHARE = 0.15
"""Of what is usual for all versions together: if so much is more at some and less at others, it is no noise."""
SMALL_FOUND_SHARE = 0.7
"""Instead of `FOUND_SHARE` where it is less, and leaves a version's band. With more, noise would hide in every tenth
last step of a switch that its requests were found; with less, it would find those of a small version that died."""


@dataclass(slots=True)
class VersionRate:
    """Requests a second of one version in a window. `trigger`: what is usual for it; None: not known here.
    `rested`: it was at rest until this window, and nothing was expected of it."""

    rate: float
    trigger: ForecastResidual | None
    rested: bool = False

    @property
    def usual(self) -> float:
        """What was expected of it."""
        return 0.0 if self.rested or self.trigger is None else self.trigger.usual

    @property
    def is_outside(self) -> bool:
        """Whether its rate fell below its band."""
        return self.trigger is not None and self.trigger.is_outside(self.rate)


def move_usual(versions: Sequence[VersionRate]) -> bool:
    """Where requests moved between versions of one model and scenario, expect of each its present share of what was
    usual for all together: what none of them has is missing at each. Returns whether they moved."""
    missing = sum(max(0.0, one.usual - one.rate) for one in versions)
    more = sum(max(0.0, one.rate - one.usual) for one in versions)
    usual, rate = sum(one.usual for one in versions), sum(one.rate for one in versions)
    least = max((one.trigger.policy.deviation_min for one in versions if one.trigger is not None), default=0.0)
    clear = min(missing, more) >= max(CLEAR_SHARE * usual, least)  # a smaller fall alerts nobody
    small = more >= SMALL_FOUND_SHARE * missing and any(one.is_outside for one in versions if not one.rested)
    moved = missing > 0.0 and FOUND_SHARE * missing <= more and (clear or small)
    for one in versions:
        if one.trigger is None:
            continue
        if moved:
            one.trigger.move(usual * one.rate / rate)
        elif one.rested and one.is_outside:  # it had more once; now others answer
            one.trigger.move(one.rate)
    return moved


def follow_moves(
    live: LiveSeries, names: Iterable[str], rested: Set[str], found: Mapping[str, SeriesWindow], window: WindowId
) -> None:
    """Do so for all models that have some of the series `names`, which the window holds. `rested`: those of them that
    were at rest until this window. Those that it does not hold have a rate of 0, unless they rest still.

    The detector beside the trigger learns such a model's rates anew: beside the move in its past, which is nothing to
    be called out, no fall after it would be unusual.
    """
    models: dict[str, list[str]] = {}
    for name in names:
        models.setdefault(_model_of(name), []).append(name)
    absent = [name for name in live.active.keys() - found.keys() if window.end_ms > live[name].last_ms]
    for name in sorted(absent):
        if _model_of(name) in models:
            models[_model_of(name)].append(name)
    for known in models.values():
        if len(known) == 1 or not live[known[0]].key.model:  # without a model there is no version
            continue
        if move_usual([_rate_of(live, name, name in rested, found) for name in known]):
            for name in known:
                watched = live[name].metrics[RATE]
                if watched.row >= 0:
                    live.scoring.bank.renew(watched.row)
                watched.learnt = 0
                live.mark(live[name])


def _model_of(name: str) -> str:
    return name.rpartition("\x1f")[0]


def _rate_of(live: LiveSeries, name: str, rested: bool, found: Mapping[str, SeriesWindow]) -> VersionRate:
    watched = live[name].metrics.get(RATE)
    trigger = None if watched is None else watched.trigger
    rate = found[name].values.get(RATE, 0.0) if name in found else 0.0
    return VersionRate(rate, trigger if isinstance(trigger, ForecastResidual) else None, rested)

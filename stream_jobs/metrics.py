"""Which metrics of a series' window are scored: those of the kinds that windows show."""

from __future__ import annotations

from stream_jobs.kinds import KINDS
from stream_jobs.scored_metric import Metric
from stream_jobs.settings import JobSettings


def metrics_of(settings: JobSettings) -> tuple[Metric, ...]:
    """The metrics, as the settings tune them, in the order of the registry."""
    scored = [one for about in KINDS if about.metric is not None for one in (about.metric, *about.beside)]
    return tuple(one(settings) for one in scored)

"""The page of the kinds of anomalies, `docs/kinds.md`, made of the registry."""

from __future__ import annotations

from schemas.anomalies import AnomalyKind, ScoreKind
from stream_jobs.kinds import KINDS
from stream_jobs.scored_metric import Metric
from stream_jobs.settings import JobSettings


def page(note: str) -> str:
    """The registry as a Markdown page, a section a kind, in the enumeration's order. `note` says how it is made."""
    by_kind = {about.kind: about for about in KINDS}
    lines = ["# Kinds of anomalies", "", f"{note} The source is `stream_jobs/kinds.py`.", ""]
    lines += [
        "The list is closed: every event on `anomaly.events` and every alert has one of these. Settings are "
        "named without",
        "`INFERWATCH_JOBS_`; [settings.md](settings.md) has their defaults. A window is `window_seconds` long.",
        "",
        "An alert rests on a fact, or on a score: what rests on a score has the budget `alerts_a_week`",
        "([why](decisions/0009-alert-budget.md)). Where it says nothing of a score, the trigger is a fact.",
        "What a score says of a window depends on its `score_kind`: a rank is the share of the series' own past that",
        "was less severe, a strength is the trigger's own measure ([why](decisions/0024-two-kinds-of-scores.md)).",
        "",
    ]
    for kind in AnomalyKind:
        about = by_kind[kind]
        settings = JobSettings.model_construct()
        scored = [] if about.metric is None else [about.metric(settings)]
        beside = [one(settings).name for one in about.beside]
        lines += [f"## {kind.value}", about.trigger, ""]
        lines += [f"* Series: {about.series}."]
        lines += [f"* Reads: {', '.join(f'`{name}`' if '_' in name else name for name in about.reads)}."]
        lines += [f"* Scored as: `{one.name}`; `score_kind` is `{_score_kind(one).value}`." for one in scored]
        lines += [f"* Scored beside it, without alerts: `{name}`." for name in beside]
        lines += [f"* Direction: {about.direction}.", f"* Policy: {about.policy}", f"* Quiet: {about.quiet}", ""]
        lines += ["What to do first:", ""]
        lines += [f"{number}. {step}" for number, step in enumerate(about.first, 1)]
        lines.append("")
    return "\n".join(lines)


def _score_kind(metric: Metric) -> ScoreKind:
    """Which scale the scores of a metric's windows are on."""
    return ScoreKind.RANK if metric.scored else ScoreKind.STRENGTH

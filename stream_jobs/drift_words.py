"""What drifted, in words, for alerts: of the histogram that differs most from the version's reference."""

from __future__ import annotations

from stream_jobs.detectors.forecast_residual import Judgement
from stream_jobs.detectors.histogram_drift import DriftJudgement

_CUT = "inputs are cut into {} pieces than the version's reference, as another language or kind of text would be"
WORDS: dict[str, tuple[str, str]] = {
    "token_bins": ("inputs are longer", "inputs are shorter"),
    "unknown_bins": ("inputs hold more unknown tokens", "inputs hold fewer unknown tokens"),
    "fertility_bins": (_CUT.format("more"), _CUT.format("fewer")),
    "confidence_bins": ("answers are more sure of themselves", "answers are less sure of themselves"),
    "norm_bins": ("vectors of answers are longer", "vectors of answers are shorter"),
    "script_bins": ("inputs are written in other writing systems",) * 2,
    "direction_bins": ("vectors of answers point elsewhere",) * 2,
}
"""By histogram: what it means that recent values are larger, and that they are smaller than the reference's."""


def drift_words(judgement: Judgement) -> str:
    """What the largest contributor to an anomalous drift means, with the size of its effect, such as "inputs are longer
    (Cliff's delta +0.41)"; empty of what is no drift, and of a histogram that only a newer version's state knows."""
    if not isinstance(judgement, DriftJudgement) or not judgement.anomalous or not judgement.contributors:
        return ""
    name = max(judgement.contributors, key=judgement.contributors.__getitem__)
    if name not in WORDS:
        return ""
    larger, smaller = WORDS[name]
    moved = judgement.effects.get(f"{name}_moved")
    if moved is not None:
        return f"{larger} ({moved * 100:.0f} % of them moved)"
    delta = judgement.effects[f"{name}_delta"]
    return f"{larger if delta > 0.0 else smaller} (Cliff's delta {delta:+.2f})"

"""One series as a picture: its values in the band of usual ones, how anomalous each was, and what alerted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from infra.chart_style import BAD, FAINT, INK, plain
from stream_jobs.detectors.base import Floats

BAND, VALUE, SCORE = "#cfe3dc", "#0b3c5d", "#0b6e4f"
INCHES, DOTS = (11.0, 6.2), 150
CALENDAR_MS_MAX = 4e12
"""Up to 2096 times are dates; else, and before 1971, they are drawn as numbers."""
CALENDAR_MS_MIN = 3.2e10


def draw(
    path: Path, columns: dict[str, Floats], alerts_ms: Sequence[int], title: str, subtitle: str, metric: str
) -> None:
    """Write the PNG. `columns` are those of `Thinned`."""
    # Late and without a screen: importing takes a second, and a server has no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, dpi=DOTS, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1.0))
    upper.set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK, pad=24, parse_math=False)
    upper.text(0, 1.03, subtitle, transform=upper.transAxes, fontsize=9, color=FAINT, parse_math=False)
    when = _times(columns["time_ms"])
    usual = np.isfinite(columns["lower"]) & np.isfinite(columns["upper"])
    if usual.any():
        upper.fill_between(when, columns["lower"], columns["upper"], where=usual, color=BAND, lw=0, label="usual")
    if np.isfinite(columns["expected"]).any():
        upper.plot(when, columns["expected"], color=SCORE, lw=0.8, alpha=0.7, label="expected")
    upper.plot(when, columns["value"], color=VALUE, lw=0.9, label=metric.replace("_", " "))
    _limit(upper, columns["value"])
    lower.plot(when, columns["alarm"], color=SCORE, lw=0.9, label="alarm")
    for number, alert in enumerate(_times(np.array(alerts_ms, dtype=np.float64))):
        for axes in (upper, lower):
            axes.axvline(alert, color=BAD, lw=1.0, alpha=0.7, label="alert" if number == 0 else None)
    upper.set_ylabel(metric, color=INK, parse_math=False)
    lower.set_ylabel("alarm", color=INK)
    for axes in (upper, lower):
        axes.legend(loc="upper left", frameon=False, fontsize=8.5, ncols=4)
        plain(axes)
    figure.savefig(path, format="png")


def _limit(axes: Any, values: Floats) -> None:
    """The picture's height is that of the values: one band that is far too wide must not flatten them."""
    values = values[np.isfinite(values)]
    if len(values):
        low, high = float(values.min()), float(values.max())
        room = 0.08 * (high - low) or 0.08 * abs(high) or 1.0
        axes.set_ylim(low - room, high + 2 * room)


def _times(time_ms: Floats) -> Any:
    if len(time_ms) and time_ms.min() > CALENDAR_MS_MIN and time_ms.max() < CALENDAR_MS_MAX:
        return [datetime.fromtimestamp(one / 1000.0, UTC) for one in time_ms.tolist()]
    return time_ms / 1000.0

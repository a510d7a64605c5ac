"""The capacity curve as a picture: throughput and latency over the offered rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.load_policy import LoadStep, Saturation, Verdict
from infra.chart_style import BAD, FAINT, INK, plain

THROUGHPUT = "#0b6e4f"
QUANTILES = (("p50_ms", "p50", "#7ec4cf"), ("p95_ms", "p95", "#2a7f9e"), ("p99_ms", "p99", "#0b3c5d"))
INCHES, DOTS = (9.0, 6.6), 150


def draw(path: Path, steps: Sequence[LoadStep], found: Saturation, title: str, subtitle: str) -> None:
    """Write the PNG. Steps may come in any order."""
    # Late and without a screen: importing takes a second, and a server has no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = sorted(steps, key=lambda step: step.offered_per_second)
    figure = Figure(figsize=INCHES, dpi=DOTS, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK, pad=24)
    upper.text(0, 1.035, subtitle, transform=upper.transAxes, fontsize=9, color=FAINT)
    _throughput(upper, steps, found)
    _latency(lower, steps)
    for axes in (upper, lower):
        plain(axes)
        if found.saturates_at_per_second is not None:
            right = axes.get_xlim()[1]
            axes.axvspan(found.saturates_at_per_second, right, color=BAD, alpha=0.06, lw=0)
            axes.set_xlim(right=right)
    lower.set_xlabel("offered, requests a second", color=INK)
    figure.savefig(path, format="png")


def _throughput(axes: Any, steps: Sequence[LoadStep], found: Saturation) -> None:
    rates = [step.offered_per_second for step in steps]
    most = max(rates)
    axes.plot([0, most], [0, most], color=FAINT, lw=1, ls=(0, (4, 3)), label="all answered")
    axes.plot(rates, [step.measure.throughput_per_second for step in steps], color=THROUGHPUT, lw=2, marker="o", ms=4.5)
    for step in steps:
        if step.verdict is not Verdict.SUSTAINED:
            axes.plot(step.offered_per_second, step.measure.throughput_per_second, "o", color=BAD, ms=6)
            axes.annotate(
                step.verdict.value,
                (step.offered_per_second, step.measure.throughput_per_second),
                xytext=(0, -14),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
                color=BAD,
                zorder=5,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
            )
    if found.sustained_per_second is not None:
        axes.axvline(found.sustained_per_second, color=THROUGHPUT, lw=1, ls=":")
        axes.annotate(
            f"holds {found.sustained_per_second:.0f}/s",
            (found.sustained_per_second, 0),
            xytext=(-5, 6),
            textcoords="offset points",
            ha="right",
            fontsize=8.5,
            color=THROUGHPUT,
        )
    axes.set_xlim(0, most * 1.06)
    axes.set_ylim(0, most * 1.06)
    axes.set_ylabel("answered, requests a second", color=INK)
    axes.legend(loc="upper left", frameon=False, fontsize=8.5)


def _latency(axes: Any, steps: Sequence[LoadStep]) -> None:
    rates = [step.offered_per_second for step in steps]
    for name, label, color in QUANTILES:
        values = [getattr(step.measure, name) for step in steps]
        axes.plot(rates, values, color=color, lw=2, marker="o", ms=4, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_ylabel("request to answer, ms", color=INK)
    axes.legend(loc="upper left", frameon=False, fontsize=8.5, ncols=3)

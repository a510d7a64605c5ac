"""The figures of `inferwatch bench scoring` as one JSON object, and as lines for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.figures import Spread, paired_ratio, spread
from benchmarks.scoring.storing import Stored

Figures = dict[str, Any]
COSTS = (
    *("hst_rows_per_second_core", "hst_rows_per_second_river", "hst_ratio_to_river"),
    *("us_per_point_loop", "us_per_point_batch", "cost_flatness", "state_bytes_per_series"),
    *("series_state_bytes", "parked_series_bytes", "series_state_raw_bytes"),
)
PARTS = "series_state_parts"
BUSY_SHARE = 0.9
"""A process that used less of its core waited for the servers."""


def run_figures(runs: Sequence[Stored]) -> Figures:
    """One side's rows a second while it had one core, and a second of processor time."""
    seconds, cpu = spread([one.per_second for one in runs]), spread([1e6 / one.cpu_us_per_row for one in runs])
    return {
        "rows_per_second": seconds.median,
        "rows_per_cpu_second": cpu.median,
        "core_share": spread([one.core_share for one in runs]).median,
        "foreign_load": [None if one.foreign_load is None else round(one.foreign_load, 3) for one in runs],
        "rows": runs[-1].rows,
        "spread": {"rows_per_second": seconds.as_json(), "rows_per_cpu_second": cpu.as_json()},
    }


def pipeline_figures(
    ours: Mapping[int, Sequence[Stored]], peers: Mapping[str, Sequence[Stored]], absent: Mapping[str, str]
) -> Figures:
    """`ours` by requests an event, the first one the figure; `peers` by name, paired with it round by round."""
    first = next(iter(ours))
    main = ours[first]
    told: Figures = {
        "pipeline_rows_per_second_core": spread([one.per_second for one in main]).median,
        "pipeline_rows_per_cpu_second": spread([1e6 / one.cpu_us_per_row for one in main]).median,
        "requests_per_event": first,
        "by_requests_per_event": {str(size): run_figures(runs) for size, runs in ours.items()},
        "peers": {
            **{name: run_figures(runs) for name, runs in peers.items()},
            **{name: {"rows_per_second": None, "why": why} for name, why in absent.items()},
        },
    }
    for name, runs in peers.items():
        told[f"ratio_to_{name}"] = paired_ratio(
            [one.per_second for one in main], [one.per_second for one in runs]
        ).as_json()
        told[f"cpu_ratio_to_{name}"] = paired_ratio(
            [1 / one.cpu_us_per_row for one in main], [1 / one.cpu_us_per_row for one in runs]
        ).as_json()
    return told


def cost_figures(costs: Mapping[str, Any]) -> Figures:
    """Medians of what `benchmarks.detection.speed` measures, with their spread."""
    medians = {name: one.median if isinstance(one, Spread) else one for name, one in costs.items()}
    return medians | {"cost_spread": {name: one.as_json() for name, one in costs.items() if isinstance(one, Spread)}}


def lines_for_people(figures: Figures) -> str:
    """The same, shorter."""
    lines = []
    if "by_requests_per_event" in figures:
        for size, one in figures["by_requests_per_event"].items():
            lines.append(_line(f"inferwatch, {size} requests an event", one))
        for name, one in figures["peers"].items():
            lines.append(_line(name, one) if one["rows_per_second"] is not None else f"{name}: {one['why']}")
            if f"ratio_to_{name}" in figures:
                lines.append(
                    f"  inferwatch stores {figures[f'ratio_to_{name}']['median']:.1f} times as many a second, and "
                    f"{figures[f'cpu_ratio_to_{name}']['median']:.1f} times as many a second of processor time"
                )
    lines += [f"{name} {figures[name]:.4g}" for name in COSTS if name in figures]
    lines += [f"  of it {name} {size}" for name, size in figures.get(PARTS, {}).items()]
    return "\n".join(lines)


def _line(name: str, one: Figures) -> str:
    waited = "" if one["core_share"] >= BUSY_SHARE else "; the servers were slower"
    return (
        f"{name}: {one['rows_per_second']:,.0f} rows/s on one core ({one['core_share']:.0%} of it used{waited}), "
        f"{one['rows_per_cpu_second']:,.0f} rows a second of processor time"
    )

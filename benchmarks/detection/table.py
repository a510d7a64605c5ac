"""The figures of detection as words: one row a detector, and the figures that are aimed at. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOT_MEASURED = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of a detector's row: where it lies, how it is printed."""

    heading: str
    path: tuple[str, ...]
    digits: int


COLUMNS = (
    Column("NAB std", ("sets", "nab", "standard"), 1),
    Column("low FP", ("sets", "nab", "reward_low_FP_rate"), 1),
    Column("low FN", ("sets", "nab", "reward_low_FN_rate"), 1),
    Column("AIOPS F1", ("sets", "aiops29", "event_f1"), 3),
    Column("WSD F1", ("sets", "wsd", "event_f1"), 3),
    Column("WSD VUS-PR", ("sets", "wsd", "mean_vus_pr"), 3),
    Column("ASD AP", ("sets", "asd", "mean_ap"), 3),
    Column("frozen", ("frozen_threshold_ratio",), 3),
    Column("quiet/week", ("sets", "quiet", "quiet_false_alarms_per_series_week"), 2),
    Column("no budget", ("sets", "quiet", "quiet_per_series_week_at_a_threshold"), 2),
    Column("us loop", ("us_per_point_loop", "median"), 1),
    Column("us batch", ("us_per_point_batch", "median"), 2),
    Column("state B", ("state_bytes_per_series",), 0),
)
FIGURES = {
    "nab_standard": ("sets", "nab", "standard"),
    "nab_low_fp": ("sets", "nab", "reward_low_FP_rate"),
    "nab_low_fn": ("sets", "nab", "reward_low_FN_rate"),
    "aiops29_event_f1": ("sets", "aiops29", "event_f1"),
    "wsd_event_f1": ("sets", "wsd", "event_f1"),
    "wsd_mean_vus_pr": ("sets", "wsd", "mean_vus_pr"),
    "frozen_threshold_ratio": ("frozen_threshold_ratio",),
    "frozen_aiops29_to_wsd": ("frozen_aiops29_to_wsd",),
    "frozen_wsd_to_aiops29": ("frozen_wsd_to_aiops29",),
    "asd_mean_ap": ("sets", "asd", "mean_ap"),
    "quiet_false_alarms_per_series_week": ("sets", "quiet", "quiet_false_alarms_per_series_week"),
    "us_per_point_loop": ("us_per_point_loop", "median"),
    "us_per_point_batch": ("us_per_point_batch", "median"),
    "cost_flatness": ("cost_flatness", "median"),
    "state_bytes_per_series": ("state_bytes_per_series",),
    "causality": ("causality",),
    "loop_equals_batch": ("loop_equals_batch",),
    "invariance_rank_correlation": ("invariance_rank_correlation",),
}
"""Of the detector under test, by the names they are asked for."""


def at(row: Mapping[str, Any], path: Sequence[str]) -> Any:
    """What lies there, or None."""
    found: Any = row
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def figures_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """The flat figures of the detector under test and of the half-space trees."""
    first = found["detectors"][0]
    flat = {name: at(first, path) for name, path in FIGURES.items()}
    trees = found.get("half_space_trees", {})
    for name in ("hst_rows_per_second_core", "hst_ratio_to_river"):
        flat[name] = at(trees, (name, "median"))
    return flat


def cells(row: Mapping[str, Any]) -> list[str]:
    """A detector's row, one text a column; its name first."""
    texts = []
    for column in COLUMNS:
        value = at(row, column.path)
        texts.append(NOT_MEASURED if value is None else f"{value:,.{column.digits}f}")
    return [row["detector"], *texts]


def sampled(found: Mapping[str, Any]) -> list[str]:
    """A sentence for every detector that was not run over all series."""
    notes = []
    for row in found["detectors"]:
        every = max((one.get("every", 1) for one in row["sets"].values()), default=1)
        if every > 1:
            notes.append(f"Of AIOPS and WSD, {row['detector']} saw one series in {every}.")
    return notes


def published_lines(found: Mapping[str, Any]) -> list[str]:
    """A sentence for every published detector of NAB: its scores as our scorer finds them."""
    return [
        f"NAB, {name}: "
        + ", ".join(
            f"{profile} {one['ours']:.2f} (published {one['published']:.2f})" for profile, one in scores.items()
        )
        for name, scores in found.get("nab_published", {}).items()
    ]


def lines_for_people(found: Mapping[str, Any]) -> str:
    """The table, the notes and the flat figures."""
    rows = [["detector", *(column.heading for column in COLUMNS)], *(cells(row) for row in found["detectors"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines += ["", *sampled(found), *published_lines(found), ""]
    flat = figures_of(found)
    width = max(map(len, flat))
    for name, value in flat.items():
        shown = NOT_MEASURED if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
        lines.append(f"{name.ljust(width)}  {shown}")
    return "\n".join(lines)

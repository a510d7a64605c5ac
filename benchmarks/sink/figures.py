"""The figures of `inferwatch bench sink` as one JSON object, and as lines for people. Pure."""

from __future__ import annotations

from typing import Any

from benchmarks.figures import paired_ratio, spread
from benchmarks.sink.barrier_part import BarrierRounds
from benchmarks.sink.outage_part import MIB, Outage
from benchmarks.sink.rows_part import Rounds, block_figures

Figures = dict[str, Any]


def rows_figures(rounds: Rounds) -> Figures:
    """The sink's speed, its ratio to a bare insert in the same round, and its blocks."""
    ratio, to_ready = paired_ratio(rounds.sink, rounds.bare), paired_ratio(rounds.sink, rounds.ready)
    return {
        "sink_rows_per_second": spread(rounds.sink).median,
        "bare_rows_per_second": spread(rounds.bare).median,
        "sink_ratio_to_bare": ratio.median,
        "sink_ratio_to_ready_blocks": to_ready.median,
        "rows": rounds.rows,
        "blocks": block_figures(rounds.blocks),
        "spread": {
            "sink_rows_per_second": spread(rounds.sink).as_json(),
            "bare_rows_per_second": spread(rounds.bare).as_json(),
            "sink_ratio_to_bare": ratio.as_json(),
            "sink_ratio_to_ready_blocks": to_ready.as_json(),
        },
    }


def barrier_figures(rounds: BarrierRounds, series: int) -> Figures:
    """The barriers' share of the job's processor time, as they count it and as the two jobs differ."""
    usual, never = rounds.usual, rounds.never
    share = spread([one.share for one in usual])
    differs = spread([1 - b.cpu_seconds / a.cpu_seconds for a, b in zip(usual, never, strict=True)])
    return {
        "barrier_cpu_share": share.median,
        "barrier_cpu_share_by_difference": differs.median,
        "barrier_series": series,
        "barriers": sum(one.barriers for one in usual),
        "barrier_cpu_seconds_each": sum(one.barrier_cpu_seconds for one in usual)
        / max(1, sum(one.barriers for one in usual)),
        "job_cpu_seconds_per_second": spread([one.cpu_seconds / one.seconds for one in usual]).median,
        "job_memory_bytes": max(one.rss_bytes for one in usual),
        "barrier_spread": {
            "barrier_cpu_share": share.as_json(),
            "barrier_cpu_share_by_difference": differs.as_json(),
        },
    }


def lines_for_people(figures: Figures) -> str:
    """The same, shorter."""
    lines = []
    if "sink_rows_per_second" in figures:
        blocks = figures["blocks"]
        lines.append(
            f"sink: {figures['sink_rows_per_second']:,.0f} rows/s, {figures['sink_ratio_to_bare']:.2f} of a bare "
            f"columnar insert ({figures['bare_rows_per_second']:,.0f} rows/s), "
            f"{figures['sink_ratio_to_ready_blocks']:.2f} of blocks joined before; "
            f"{blocks['rows_per_block_median']:,.0f} rows a block, "
            f"{blocks['rows_in_blocks_of_10000']:.0%} of rows in blocks of at least 10,000"
        )
    if "outage" in figures:
        one = Outage(**figures["outage"])
        lines.append(
            f"{one.outage_seconds:.0f} s without ClickHouse at {one.live_rate:,.0f} requests/s: {one.lost} lost, "
            f"{one.visible_duplicates} seen twice of {one.told:,}; memory {one.memory_before_bytes / MIB:,.0f} MiB "
            f"before, {one.memory_outage_bytes / MIB:,.0f} in it ({one.memory_late_growth_bytes / MIB:+,.0f} in its "
            f"second half), {one.memory_peak_bytes / MIB:,.0f} at most; caught up in "
            f"{one.catch_up_seconds:.0f} s at {one.catch_up_to_live:.1f} times the live rate"
        )
    if "barrier_cpu_share" in figures:
        lines.append(
            f"barrier: {figures['barrier_cpu_share']:.1%} of the job's processor time with "
            f"{figures['barrier_series']:,} live series ({figures['barrier_cpu_share_by_difference']:.1%} by the "
            f"difference to a job without), {figures['barrier_cpu_seconds_each'] * 1000:,.0f} ms each"
        )
    return "\n".join(lines)

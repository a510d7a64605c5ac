"""How our pictures look, for what draws with matplotlib: colours, and axes with little on them. Needs no library."""

from __future__ import annotations

from typing import Any

INK, GRID, FAINT, BAD = "#1f2933", "#e4e7eb", "#9aa5b1", "#c0392b"
"""Text and axes; lines behind the data; what is beside the point; what is wrong."""


def plain(axes: Any) -> None:
    """Take from matplotlib axes what does not help to read them."""
    axes.grid(True, color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK, labelsize=9, length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)

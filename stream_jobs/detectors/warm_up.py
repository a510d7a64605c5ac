"""Loads the compiled loops that the score job uses, compiling what is not cached: seconds, better spent early."""

from __future__ import annotations

from stream_jobs.detectors import half_space_trees, two_heads


def warm_up() -> None:
    """Row models and the default detector of windows. Blocks for seconds the first time."""
    half_space_trees.warm_up()
    two_heads.warm_up()

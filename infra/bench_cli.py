"""`inferwatch bench NAME`: measurements as commands, from the entry-point group `inferwatch.benchmarks`."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import click

from infra.cli import LazyCommands

GROUP = "inferwatch.benchmarks"


class LazyBenchmarks(LazyCommands):
    """Benchmarks, imported only when run."""

    def _points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=GROUP)}


@click.group(cls=LazyBenchmarks)
def bench() -> None:
    """Measure this machine. Each benchmark prints figures, with --json as one object.

    \b
    Example:
      inferwatch bench startup --repeat 3
    """

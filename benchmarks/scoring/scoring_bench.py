"""`inferwatch bench scoring`: telemetry on Kafka to scored rows in ClickHouse on one core, beside Faust and Quix with
River; and what scoring alone costs."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from infra.cli import EXIT_TRY_AGAIN

if TYPE_CHECKING:
    from benchmarks.scoring.pinning import Cores
    from benchmarks.scoring.storing import Stored

PARTS = ("pipeline", "peers", "trees", "points")
Say = Callable[[str], None]


@click.command("scoring")
@click.option("--rows", type=click.IntRange(10_000), default=1_500_000, show_default=True, help="Requests of one run.")
@click.option(
    "--requests-per-event",
    "sizes",
    type=click.IntRange(1, 2_000),
    multiple=True,
    default=(500, 64),
    show_default=True,
    help="Requests that a telemetry event tells; may be given several times. The first one is the figure.",
)
@click.option("--peer-rows", type=click.IntRange(60_000), default=120_000, show_default=True, help="Of a peer's run.")
@click.option("--repeat", type=click.IntRange(1, 50), default=3, show_default=True, help="Interleaved rounds.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Only this part; may be given several times.")
@click.option("--skip-peers", is_flag=True, help="Neither install nor run the peers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def scoring(
    rows: int,
    sizes: tuple[int, ...],
    peer_rows: int,
    repeat: int,
    only: tuple[str, ...],
    skip_peers: bool,
    as_json: bool,
) -> None:
    """Fill the telemetry topic as workers do, run the real score job on one core until every row is visible, and
    compare: with Faust and River, and Quix Streams and River, an event at a time, on the same core.

    Kafka and ClickHouse are this benchmark's own and run on the other cores; the first fifth of the rows is not timed;
    all rows are read back and checked. Where the job used less than its core, the servers were slower: then rows a
    second of processor time say what the job could do. Also: half-space trees beside River's, and what a window's point
    costs the default detector. Takes about ten minutes on two cores; progress goes to standard error.

    \b
    Example:
      inferwatch bench scoring --json > scoring.json
      inferwatch bench scoring --only pipeline --repeat 1
    """
    from benchmarks.machine_facts import machine_facts
    from benchmarks.scoring.figures import lines_for_people
    from benchmarks.scoring.pinning import cores

    # Ended from outside, it takes its servers and the job with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(EXIT_TRY_AGAIN))
    parts = frozenset(only or PARTS) - ({"peers"} if skip_peers else frozenset())
    chosen = cores()
    if chosen is None:
        _say("one core for all, or cores cannot be chosen here: the job shares its core with the servers")
    figures: dict[str, Any] = {}
    if "trees" in parts or "points" in parts:
        figures |= _costs(parts)
    if "pipeline" in parts or "peers" in parts:
        figures |= _pipeline(chosen, rows, tuple(dict.fromkeys(sizes)), peer_rows if "peers" in parts else 0, repeat)
    figures |= {
        "settings": {"rows": rows, "peer_rows": peer_rows, "repeat": repeat, "pinned": chosen is not None},
        "machine": machine_facts(),
    }
    click.echo(json.dumps(figures) if as_json else lines_for_people(figures))


def _costs(parts: frozenset[str]) -> dict[str, Any]:
    from benchmarks.detection import choice, speed
    from benchmarks.scoring.figures import cost_figures
    from benchmarks.scoring.state_part import series_state

    found: dict[str, Any] = {}
    if "trees" in parts:
        _say("half-space trees")
        found |= speed.half_space_trees()
    if "points" in parts:
        _say("points of windows")
        make = choice.maker(choice.DEFAULT)
        found |= speed.point_costs(make) | {"cost_flatness": speed.cost_flatness(make)}
        found["state_bytes_per_series"] = speed.state_bytes(make)
        _say("state of a series")
        found |= series_state()
    return cost_figures(found)


def _pipeline(chosen: Cores | None, rows: int, sizes: Sequence[int], peer_rows: int, repeat: int) -> dict[str, Any]:
    from benchmarks.scoring.figures import pipeline_figures
    from benchmarks.scoring.peers_part import Peers
    from benchmarks.scoring.pipeline_part import pipeline

    ours: dict[int, list[Stored]] = {size: [] for size in sizes}
    theirs: dict[str, list[Stored]] = {}
    with pipeline(chosen, _say) as served:
        peers = Peers(served, peer_rows, _say) if peer_rows else None
        absent = {} if peers is None else peers.absent
        for number in range(1, repeat + 1):
            _say(f"round {number} of {repeat}")
            for size in sizes:
                _say(f"  filling the topics, {size} requests an event")
                ours[size].append(served.score_once(rows, size))
                _say(f"  inferwatch {_rate(ours[size][-1])}")
            for name in peers.names() if peers is not None else ():
                if name not in absent:
                    _peer_once(peers, name, theirs, absent)
        checked = served.check()
    theirs = {name: runs for name, runs in theirs.items() if name not in absent}
    return pipeline_figures(ours, theirs, absent) | {"rows_read_back": checked.rows, "rows_distinct": checked.distinct}


def _peer_once(peers: Any, name: str, theirs: dict[str, list[Stored]], absent: dict[str, str]) -> None:
    try:
        theirs.setdefault(name, []).append(peers.once(name))
    except click.ClickException as error:
        absent[name] = f"{name} cannot be run: {error.format_message()[-500:]}"
        _say(absent[name])
    else:
        _say(f"  {name} {_rate(theirs[name][-1])}")


def _rate(one: Stored) -> str:
    return f"{one.per_second:,.0f} rows/s, {one.core_share:.0%} of its core, {one.cpu_us_per_row:.2f} us a row"


def _say(text: str) -> None:
    click.echo(text, err=True)

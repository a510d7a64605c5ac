"""`inferwatch bench startup`: from `inferwatch up` to the first prediction read, on this machine."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from infra.exit_codes import EXIT_TRY_AGAIN

TRAFFIC_SECONDS_MAX = 60
"""A first prediction that takes longer from the first request on is reported as none."""
RUN_SECONDS_MAX = 300.0
SERVERS = ("INFERWATCH_KAFKA_", "INFERWATCH_CLICKHOUSE_")
"""Settings that lead to other servers than the embedded ones, or would be refused without them."""


@click.command("startup")
@click.option("--repeat", type=click.IntRange(1, 50), default=3, show_default=True, help="Measured starts.")
@click.option("--same-folder", is_flag=True, help="Start again on one folder, instead of a new one each time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def startup(repeat: int, same_folder: bool, as_json: bool) -> None:
    """Start everything, wait for the first prediction, stop, and again: median and spread in seconds.

    Always the embedded servers, in temporary folders. One start before is not counted: it fills the caches.

    \b
    Example:
      inferwatch bench startup --repeat 3
    """
    seconds: list[float] = []
    with tempfile.TemporaryDirectory(prefix="inferwatch-bench-") as scratch:
        for number in range(repeat + 1):
            folder = Path(scratch, "0" if same_folder else str(number))
            found = first_prediction_seconds(folder)
            click.echo(f"start {number}{' (not counted)' if number == 0 else ''}: {found:.2f} s", err=True)
            if number:
                seconds.append(found)
    result = spread(seconds) | {"folder": "same" if same_folder else "new"}
    if as_json:
        click.echo(json.dumps(result))
    else:
        click.echo(
            f"first prediction after {result['first_prediction_seconds']:.2f} s"
            f" (median of {repeat}; {result['least_seconds']:.2f} to {result['most_seconds']:.2f} s)"
        )


def spread(seconds: Sequence[float]) -> dict[str, Any]:
    """The median as `first_prediction_seconds`, least and most, and the figures themselves."""
    return {
        "first_prediction_seconds": round(statistics.median(seconds), 3),
        "least_seconds": round(min(seconds), 3),
        "most_seconds": round(max(seconds), 3),
        "seconds": [round(one, 3) for one in seconds],
    }


def first_prediction_seconds(folder: Path) -> float:
    """Run `inferwatch up` shortly on a folder. Raises ClickException with its words when there was no prediction."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(SERVERS)}
    arguments = (
        "up",
        "--for",
        f"{TRAFFIC_SECONDS_MAX}s",
        "--until-answered",
        "--rate",
        "50",
        "--drain",
        "0s",
        "--json",
    )
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "infra.cli", *arguments],
            env=environment | {"INFERWATCH_DATA_DIR": str(folder)},
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS_MAX,
            check=False,
        )
        found = json.loads(done.stdout)["first_prediction_seconds"]
    except subprocess.TimeoutExpired:
        raise _failed(f"no end after {RUN_SECONDS_MAX:.0f} s") from None
    except (ValueError, KeyError):
        raise _failed(f"exit code {done.returncode}: {done.stderr[-2_000:]}") from None
    if found is None:
        raise _failed(f"no prediction within {TRAFFIC_SECONDS_MAX} s of traffic")
    return float(found)


def _failed(text: str) -> click.ClickException:
    error = click.ClickException(text)
    error.exit_code = EXIT_TRY_AGAIN
    return error

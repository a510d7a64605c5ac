"""`inferwatch bench detection`: how well detectors find what is labelled in real series, and what they cost."""

from __future__ import annotations

import json
import sys
import time

import click

from infra.exit_codes import EXIT_CONFIGURATION, EXIT_INTERNAL

SETS = ("nab", "aiops29", "wsd", "asd", "quiet")
SHOWN_EVERY_SECONDS = 0.5


def _sets(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(value.split(",")))
    unknown = [name for name in chosen if name not in SETS]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: not among {', '.join(SETS)}")
    return chosen


@click.command("detection")
@click.option(
    "--detector",
    "detectors",
    multiple=True,
    metavar="NAME",
    help="Detector under test; may be given several times. Default: the product's. The baselines are always run too.",
)
@click.option("--no-baselines", is_flag=True, help="Leave the baselines' rows out.")
@click.option(
    "--sets", default=",".join(SETS), show_default=True, callback=_sets, metavar="NAME,...", help="Only these sets."
)
@click.option(
    "--every",
    type=click.IntRange(1, 29),
    help="Of AIOPS and WSD only every so many-th series. Default: all for fast detectors, every tenth for slow ones.",
)
@click.option("--skip-speed", is_flag=True, help="Do not take the time of anything.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def detection(
    detectors: tuple[str, ...],
    no_baselines: bool,
    sets: tuple[str, ...],
    every: int | None,
    skip_speed: bool,
    as_json: bool,
) -> None:
    """Run detectors strictly online over the labelled series of the data folder (INFERWATCH_DATA), and score them.

    NAB's own score from the alarm head; event-F1, VUS-PR and average precision from the severity head; one
    configuration for all series, one threshold for all of a set. A random score and simple baselines stand beside. Of
    the first detector it is also checked that no score looks ahead, that batches are loops and that the unit does not
    matter; where one of these does not hold, it is said and the exit code is 70. Takes minutes; progress goes to
    standard error.

    \b
    Example:
      inferwatch bench detection --json > detection.json
      inferwatch bench detection --detector gaussian_z --sets nab,asd
    """
    from benchmarks.detection import choice
    from benchmarks.detection.plan import Plan
    from benchmarks.detection.table import figures_of, lines_for_people
    from benchmarks.machine_facts import machine_facts
    from infra.settings import load
    from producers.sample_data import DataSettings

    known = choice.names()
    chosen = detectors or tuple(name for name in (choice.DEFAULT,) if name in known)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: not among {', '.join(known)}", param_hint="--detector")
    if not no_baselines or not chosen:
        chosen = tuple(dict.fromkeys([*chosen, *(name for name in choice.ALWAYS_SHOWN if name in known)]))
    plan = Plan(chosen, sets, load(DataSettings).data, every, not skip_speed)
    missing = plan.missing()
    if missing:
        click.echo(
            f"detection: INFERWATCH_DATA={plan.data}: {', '.join(missing)} not there. The data are not shipped; name "
            "their folder with INFERWATCH_DATA, or choose among what is there with --sets.",
            err=True,
        )
        sys.exit(EXIT_CONFIGURATION)
    progress = Progress()
    found = plan.run(progress.say)
    progress.end()
    found = {"figures": figures_of(found), **found, "machine": machine_facts()}
    click.echo(json.dumps(found) if as_json else lines_for_people(found))
    broken = found["detectors"][0]["broken"]
    for promise in broken:
        click.echo(f"detection: {chosen[0]} does not keep {promise}", err=True)
    if broken:
        sys.exit(EXIT_INTERNAL)


class Progress:
    """One line that changes on a terminal; in a file a line for each part that begins."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._shown_at, self._part = 0.0, ""

    def say(self, text: str) -> None:
        """Show it, unless something was shown just now."""
        part = ": ".join(text.split(": ")[:2])
        now = time.monotonic()
        if self._on_terminal:
            if now - self._shown_at >= SHOWN_EVERY_SECONDS or part != self._part:
                click.echo(f"\r\x1b[K{text}", err=True, nl=False)
                self._shown_at = now
        elif part != self._part:
            click.echo(part, err=True)
        self._part = part

    def end(self) -> None:
        """Leave the terminal's line clean."""
        if self._on_terminal:
            click.echo("\r\x1b[K", err=True, nl=False)

"""`inferwatch loadtest`: rising load on a running worker over Kafka, and the capacity curve that comes of it."""

from __future__ import annotations

import json
import sys
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.load_options import load_of, load_options
from infra.durations import Duration
from infra.exit_codes import EXIT_CONFIGURATION, EXIT_TRY_AGAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.load_policy import LoadStep, Saturation
    from infra.settings import KafkaSettings

FIRST_SECONDS_MAX = 60.0
HEAD = ("offered/s", "sent/s", "answered/s", "p50 ms", "p95 ms", "p99 ms", "max ms", "owed", "")


@click.command("loadtest")
@click.option(
    "--rate-min", type=click.FloatRange(0.1, 1e6), default=25.0, show_default=True, help="Lowest rate, requests/s."
)
@click.option(
    "--rate-max", type=click.FloatRange(0.1, 1e6), default=1_600.0, show_default=True, help="Never more than this."
)
@click.option("--steps", type=click.IntRange(1, 100), default=7, show_default=True, help="Rates from lowest to most.")
@click.option(
    "--refine", type=click.IntRange(0, 20), default=2, show_default=True, help="Steps that look closer at the limit."
)
@click.option("--step", type=Duration(1.0, 3_600.0), default="15s", show_default=True, help="Measured time of a step.")
@click.option(
    "--warm-up", type=Duration(0.0, 600.0), default="3s", show_default=True, help="Time before it, at the same rate."
)
@click.option("--for", "seconds", type=Duration(1.0), default="5m", show_default=True, help="No new step after this.")
@click.option("--arrivals", type=click.Choice(["poisson", "constant"]), default="poisson", show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31), default=1, show_default=True, help="Same seed, same load.")
@load_options
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("loadtest"),
    show_default=True,
    help="Files to write, without the ending: OUT.json and OUT.png.",
)
@click.option(
    "--yes-this-is-my-cluster", is_flag=True, help="Also where Kafka is not on this machine: it will be loaded fully."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.pass_context
def loadtest(
    context: click.Context,
    /,
    rate_min: float,
    rate_max: float,
    steps: int,
    refine: int,
    step: float,
    warm_up: float,
    seconds: float,
    arrivals: Any,
    seed: int,
    out: Path,
    yes_this_is_my_cluster: bool,
    as_json: bool,
    **load_wanted: Any,
) -> None:
    """Send requests at rising rates to what runs here, and find where it saturates: real shopping queries, or yours.

    An open loop: requests are sent when they are due, answered or not. Times are the broker's, from a request's append
    to its answer's. It ends when answers fall behind, when p99 explodes, or at --rate-max. Start `inferwatch up
    --no-traffic` first, or set INFERWATCH_KAFKA_BOOTSTRAP_SERVERS. The full queries are used where INFERWATCH_DATA is.

    Exit code: 0 done, 75 nothing answered, 78 Kafka is on another machine or the model does not do the task.

    \b
    Example:
      inferwatch loadtest --rate-min 50 --rate-max 800 --step 10s
      inferwatch loadtest --task rerank --items 8-32 --rate-max 200
      inferwatch loadtest --words 1-16=0.99,17-200=0.01 --scenario search=0.8,ads=0.2
      inferwatch loadtest --task generate --max-tokens 32 --rate-min 1 --rate-max 20
      inferwatch loadtest --from yesterday.jsonl --arrivals constant --out friday --json
    """
    from benchmarks.load_exchange import LoadExchange
    from benchmarks.load_policy import LoadPolicy, saturation
    from benchmarks.load_run import LoadTiming, run_steps
    from infra.connect import kafka_connection

    if rate_max < rate_min:
        raise click.UsageError(f"--rate-max {rate_max:g} is below --rate-min {rate_min:g}")
    load = load_of(context, int(rate_max * step), seed, **load_wanted)
    kafka = kafka_connection()
    _refuse_foreign(kafka, allowed=yes_this_is_my_cluster)
    run = uuid.uuid4().hex[:12]
    policy = LoadPolicy(rate_min, rate_max, steps, refine)
    with LoadExchange(kafka, load.requests, run=run) as exchange:
        _expect_an_answer(exchange)
        _say(_row(HEAD))
        done, ended = run_steps(
            exchange,
            policy,
            LoadTiming(warm_up, step, seconds),
            arrivals,
            seed,
            on_step=_announce,
            on_done=lambda one: _say(_row(_cells(one))),
        )
    found = saturation(done)
    result = _result(done, found, ended, {"arrivals": arrivals, "seed": seed, **load.facts})
    _write(out, done, found, result)
    click.echo(json.dumps(result) if as_json else _summary(found, ended, out))


def _refuse_foreign(kafka: KafkaSettings, *, allowed: bool) -> None:
    """Raise ClickException (78) for a Kafka on another machine: by its address, or by what its brokers say that they
    are called, for a tunnel begins on this machine too."""
    from benchmarks.load_guard import foreign_hosts, hosts_of
    from infra.kafka import KafkaCluster

    if allowed:
        return
    foreign = foreign_hosts(hosts_of(kafka.bootstrap_servers or ""))
    foreign = foreign or foreign_hosts(KafkaCluster(kafka).broker_hosts())
    if foreign:
        error = click.ClickException(
            f"Kafka is on {', '.join(foreign)}, and a load test takes all that a cluster can give. Ways out: run it "
            "against `inferwatch up --no-traffic` here; or say --yes-this-is-my-cluster."
        )
        error.exit_code = EXIT_CONFIGURATION
        raise error


def _expect_an_answer(exchange: Any) -> None:
    """A few requests first, so that no step waits for a worker that is not there, or measures how fast requests fail
    that the model cannot answer. Raises ClickException (75, 78)."""
    sent = exchange.run_step("constant", 5.0, 1.0, 0)
    first = exchange.wait_answered(sent.count, FIRST_SECONDS_MAX)
    outcomes = {first.answers[position].outcome for position in first.asked if position in first.answers}
    if outcomes and "answered" not in outcomes:
        error = click.ClickException(
            f"each of the first {sent.count} requests was {' or '.join(sorted(outcomes))}. Ways out: `inferwatch "
            "predictions tail` says why; choose a --task that the scenario's model does."
        )
        error.exit_code = EXIT_CONFIGURATION
        raise error
    if first.owed:
        error = click.ClickException(
            f"nothing answered within {FIRST_SECONDS_MAX:.0f} s. Ways out: `inferwatch up --no-traffic`, or start "
            "`inferwatch worker`; `inferwatch books` says who owes answers."
        )
        error.exit_code = EXIT_TRY_AGAIN
        raise error


def _result(done: Sequence[LoadStep], found: Saturation, ended: str, load: dict[str, Any]) -> dict[str, Any]:
    from benchmarks.machine_facts import machine_facts

    return {
        **asdict(found),
        "ended": ended,
        "load": load,
        "steps": [
            {
                "offered_per_second": round(step.offered_per_second, 2),
                "verdict": step.verdict.value,
                **asdict(step.measure),
                "late_seconds_max": round(step.late_seconds_max, 4),
                "refused": step.refused,
                "cut_short": step.cut_short,
            }
            for step in done
        ],
        "machine": machine_facts(),
    }


def _write(out: Path, done: Sequence[LoadStep], found: Saturation, result: dict[str, Any]) -> None:
    from benchmarks.capacity_chart import draw

    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_name(out.name + ".json").write_text(json.dumps(result, indent=2) + "\n")
    if done:
        load, machine = result["load"], result["machine"]
        subtitle = f"{_what(load)}, {load['arrivals']} arrivals; {machine['cpu']}, {machine['cores']} cores"
        draw(out.with_name(out.name + ".png"), done, found, _title(found), subtitle)


def _what(load: dict[str, Any]) -> str:
    """What was sent, in a line of the picture."""
    each = "" if load["inputs_mean"] == 1 else f", {load['inputs_mean']:g} inputs each"
    return f"{load['task']}: {load['texts']}{each}" if "task" in load else f"{load['texts']}{each}"


def _title(found: Saturation) -> str:
    if found.sustained_per_second is None:
        return "Capacity: no rate was sustained"
    limit = found.saturates_at_per_second
    return f"Capacity: holds {found.sustained_per_second:.0f} requests/s" + (
        "" if limit is None else f", saturates at {limit:.0f}"
    )


def _summary(found: Saturation, ended: str, out: Path) -> str:
    known = {"holds": found.sustained_per_second, "saturates": found.saturates_at_per_second}
    lines = [f"{name:10s}{'not found' if rate is None else f'{rate:.0f} requests/s'}" for name, rate in known.items()]
    lines += [f"capacity  {found.capacity_per_second or 0:.0f} answers/s at most", f"why       {found.reason}"]
    if ended != "done":
        lines.append(f"ended     {ended}")
    return "\n".join([*lines, f"written   {out}.json, {out}.png"])


def _announce(rate: float) -> None:
    if sys.stderr.isatty():
        click.echo(f"{rate:9.0f}  ...\r", err=True, nl=False)


def _cells(step: LoadStep) -> tuple[str, ...]:
    m = step.measure
    rates = (step.offered_per_second, m.sent_per_second, m.throughput_per_second)
    numbers = (*rates, m.p50_ms, m.p95_ms, m.p99_ms, m.max_ms, m.owed_at_end)
    return (*(f"{number:.0f}" for number in numbers), step.verdict.value)


def _row(cells: tuple[str, ...]) -> str:
    return "".join(f"{cell:>11s}" for cell in cells[:-1]) + f"  {cells[-1]}"


def _say(text: str) -> None:
    click.echo(text, err=True)

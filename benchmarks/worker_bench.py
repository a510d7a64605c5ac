"""`inferwatch bench worker`: the worker against its own engine in a bare loop and against peers, side by side."""

from __future__ import annotations

import json

import click

from infra.durations import Duration

PARTS = ("throughput", "peers", "telemetry", "latency", "swap", "memory")
MEMORY_REQUESTS = 200_000


@click.command("worker")
@click.option(
    "--model",
    type=click.Choice(["default", "base110m"]),
    default="default",
    show_default=True,
    help="all-MiniLM-L6-v2 (or INFERWATCH_WORKER_MODEL), or a 110-million-parameter encoder of random weights.",
)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Number type of all of them; auto: what the worker takes here.",
)
@click.option(
    "--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="CPU threads of a forward pass."
)
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes.")
@click.option("--requests", type=click.IntRange(100), help="Requests of one drain. Default: about 15 s of work.")
@click.option("--repeat", type=click.IntRange(1, 50), default=3, show_default=True, help="Interleaved rounds.")
@click.option(
    "--latency-for",
    type=Duration(1.0, 3_600.0),
    default="20s",
    show_default=True,
    help="Measured time at half load, in each round.",
)
@click.option(
    "--memory-requests",
    type=click.IntRange(100),
    default=MEMORY_REQUESTS,
    show_default=True,
    help="Requests of random length over which memory must stay flat.",
)
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Only this part; may be given several times.")
@click.option("--skip-peers", is_flag=True, help="Neither install nor run the peers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def worker(
    model: str,
    dtype: str,
    threads: int,
    workers: int,
    requests: int | None,
    repeat: int,
    latency_for: float,
    memory_requests: int,
    only: tuple[str, ...],
    skip_peers: bool,
    as_json: bool,
) -> None:
    """Drain a filled request topic with a real worker, and compare: with the same engine in a bare loop, and with
    sentence-transformers and infinity-emb, each in an environment of its own.

    Real Kafka, real shopping queries, telemetry on, the same number type and threads for all, one after the other in
    each round. Also: what telemetry costs, latency at half load, models swapped under load, whether memory stays flat.
    INFERWATCH_WORKER_* settings of the environment reach the worker. Takes about 20 minutes on two cores; progress goes
    to standard error.

    \b
    Example:
      inferwatch bench worker --json > worker.json
      inferwatch bench worker --model base110m --only throughput
    """
    from benchmarks.embedded_kafka import own_kafka
    from benchmarks.machine_facts import machine_facts
    from benchmarks.queries import real_queries
    from benchmarks.worker_figures import lines_for_people
    from benchmarks.worker_parts import BenchPlan, prepared, with_what_they_need

    parts = with_what_they_need(frozenset(only or PARTS) - ({"peers"} if skip_peers else set()))
    plan = BenchPlan(parts, model, dtype, threads, workers, requests, repeat, latency_for, memory_requests)
    with prepared(plan, real_queries(), _say) as run, own_kafka(_say) as kafka:
        figures = run.all_parts(kafka) | {"machine": machine_facts()}
    click.echo(json.dumps(figures) if as_json else lines_for_people(figures))


def _say(text: str) -> None:
    click.echo(text, err=True)

"""Rounds of the same texts through the worker, the bare loop and the peers, one after the other, again and again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import click

from benchmarks.drain import Drained, drain
from benchmarks.embedding_job import EmbeddingJob, EmbeddingResult, run_job
from benchmarks.peers import PEERS, Peer, command_of
from benchmarks.worker_process import ServedModel
from infra.settings import KafkaSettings

BARE = (sys.executable, "-P", "-m", "benchmarks.bare_engine")

Say = Callable[[str], None]


@dataclass
class Rounds:
    """What all rounds gave. A peer that cannot be installed or run has a reason instead of results."""

    worker: list[Drained] = field(default_factory=list)
    bare: list[EmbeddingResult] = field(default_factory=list)
    peers: dict[str, list[EmbeddingResult]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def bare_once(job: EmbeddingJob) -> EmbeddingResult:
    """Our engine in a bare loop, in a process of its own."""
    return run_job(BARE, job)


def peer_commands(say: Say) -> tuple[dict[str, list[str]], dict[str, str]]:
    """How to run each peer, installed where it was not; and why one is absent."""
    commands, absent = {}, {}
    for peer in PEERS:
        try:
            commands[peer.name] = command_of(peer, say)
        except (click.ClickException, OSError) as error:
            absent[peer.name] = _reason(peer, error)
            say(absent[peer.name])
    return commands, absent


def run_rounds(
    kafka: KafkaSettings,
    served: ServedModel,
    job: EmbeddingJob,
    peers: dict[str, list[str]],
    *,
    workers: int,
    repeat: int,
    say: Say,
) -> Rounds:
    """Interleaved, so that a slow minute of the machine hits all of them. Batch sizes are chosen in the first round and
    kept: choosing again would only warm the caches differently."""
    rounds, jobs = Rounds(), dict.fromkeys(["bare", *peers], job)
    for number in range(1, repeat + 1):
        say(f"round {number} of {repeat}")
        rounds.worker.append(drain(kafka, served, job.texts, workers=workers, say=say))
        say(f"  worker {rounds.worker[-1].per_second:.0f}/s")
        rounds.bare.append(bare_once(jobs["bare"]))
        jobs["bare"] = replace(job, batches=(rounds.bare[-1].batch,))
        say(f"  bare {rounds.bare[-1].per_second:.0f}/s (batches of {rounds.bare[-1].batch})")
        for name, command in peers.items():
            if name in rounds.absent:
                continue
            try:
                found = run_job(command, jobs[name])
            except click.ClickException as error:
                rounds.absent[name] = f"{name} cannot be run: {error.format_message()[-500:]}"
                say(rounds.absent[name])
                continue
            jobs[name] = replace(job, batches=(found.batch,))
            rounds.peers.setdefault(name, []).append(found)
            say(f"  {name} {found.per_second:.0f}/s (batches of {found.batch})")
    rounds.peers = {name: found for name, found in rounds.peers.items() if name not in rounds.absent}
    return rounds


def _reason(peer: Peer, error: click.ClickException | OSError) -> str:
    text = error.format_message() if isinstance(error, click.ClickException) else str(error)
    return f"{peer.name} cannot be installed: {text[-500:]}"

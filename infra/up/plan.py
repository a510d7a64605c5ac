"""What `inferwatch up` starts, in which order it can, and where the parts meet. Pure: ports are chosen elsewhere.

For the fastest first prediction everything slow begins at once: the broker, the engine and the worker's imports.
Topics and tables follow when the servers answer, then the traffic, then the jobs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from infra.up.children import ChildSpec

KAFKA, CLICKHOUSE, SIMULATOR = "kafka", "clickhouse", "simulator"
TOPICS, TABLES, SERVING = "topics applied", "tables applied", "first prediction or late"
PYTHON = (sys.executable, "-P", "-m")
"""-P: a folder `infra` in the current directory must not be taken for ours."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What the user asked for. `rate` is requests per second, `broken_share` a share of them, 0 to 1."""

    rate: float = 250.0
    traffic: bool = True
    workers: int = 1
    jobs: int = 1
    broken_share: float = 0.01
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Groups:
    """Names of the consumer groups, so that their lag can be shown."""

    worker: str = "inference-workers"
    jobs: str = "stream-jobs-score"

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Groups:
        """The groups that the children will use, given the environment that they inherit."""
        return cls(
            environment.get("INFERWATCH_WORKER_GROUP") or cls().worker,
            environment.get("INFERWATCH_JOBS_GROUP") or cls().jobs,
        )


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where Kafka and ClickHouse are or will be. A port of None: it runs elsewhere and is not started."""

    kafka_bootstrap_servers: str
    clickhouse_url: str
    kafka_port: int | None
    clickhouse_port: int | None

    def environment(self, data_dir: Path) -> dict[str, str]:
        """What every child needs to find them."""
        return {
            "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": self.kafka_bootstrap_servers,
            "INFERWATCH_CLICKHOUSE_URL": self.clickhouse_url,
            "INFERWATCH_DATA_DIR": str(data_dir),
        }


def inferwatch(*arguments: str) -> tuple[str, ...]:
    """The command line of one of our own commands."""
    return (*PYTHON, "infra.cli", *arguments)


def served_names(options: UpOptions) -> tuple[list[str], list[str]]:
    """Names of the workers and of the jobs: the processes that say on a port of their own how they are."""
    return _names("worker", options.workers), _names("jobs", options.jobs)


def plan(
    options: UpOptions,
    addresses: Addresses,
    data_dir: Path,
    groups: Groups,
    health_ports: Mapping[str, int] = MappingProxyType({}),
) -> list[ChildSpec]:
    """The processes, those that take longest first. `health_ports` by the name of a worker or job."""
    shared = addresses.environment(data_dir) | {
        "INFERWATCH_WORKER_GROUP": groups.worker,
        "INFERWATCH_JOBS_GROUP": groups.jobs,
    }
    specs = []
    if addresses.kafka_port is not None:
        specs.append(_embedded(KAFKA, "broker", addresses.kafka_port, data_dir, stop_rank=4))
    workers, jobs = served_names(options)
    specs += [_worker(name, shared, health_ports.get(name)) for name in workers]
    if addresses.clickhouse_port is not None:
        specs.append(_embedded(CLICKHOUSE, "clickhouse_front", addresses.clickhouse_port, data_dir, stop_rank=3))
    if options.traffic:
        specs.append(_simulator(options, shared))
    specs += [_jobs(name, shared, health_ports.get(name)) for name in jobs]
    return specs


def _names(name: str, count: int) -> list[str]:
    return [name if count == 1 else f"{name}-{number}" for number in range(1, count + 1)]


def _embedded(name: str, module: str, port: int, data_dir: Path, stop_rank: int) -> ChildSpec:
    return ChildSpec(
        name,
        (*PYTHON, f"infra.embedded.{module}", "--data", str(data_dir), "--port", str(port)),
        stop_rank=stop_rank,
        says_ready=True,
    )


def _worker(name: str, environment: Mapping[str, str], port: int | None) -> ChildSpec:
    if port is not None:
        environment = {**environment, "INFERWATCH_WORKER_METRICS_PORT": str(port)}
    # Drills are on: everything here is for trials, and `inferwatch drill` is one.
    return ChildSpec(name, inferwatch("worker", "--drills"), environment, stop_rank=1)


def _jobs(name: str, environment: Mapping[str, str], port: int | None) -> ChildSpec:
    command = inferwatch("jobs", "score", "--ledger", *(() if port is None else ("--metrics-port", str(port))))
    return ChildSpec(name, command, environment, needs=frozenset({TOPICS, TABLES, SERVING}), stop_rank=2)


def _simulator(options: UpOptions, environment: Mapping[str, str]) -> ChildSpec:
    arguments = ["simulate", "--data", "auto", "--rate", f"{options.rate:g}"]
    arguments += ["--broken-share", f"{options.broken_share:g}"]
    if options.seed is not None:
        arguments += ["--seed", str(options.seed)]
    return ChildSpec(
        SIMULATOR,
        inferwatch(*arguments),
        environment,
        needs=frozenset({TOPICS}),
        stop_rank=0,
        stop_seconds=10.0,
    )

"""Models swapped under load: is anything lost or answered twice, and what does a request wait for at worst?"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from benchmarks.drain import FIRST_ANSWER_SECONDS_MAX
from benchmarks.load_exchange import LoadExchange
from benchmarks.log_span import answer_of, ends_of, read_span
from benchmarks.step_log import StepMeasure
from benchmarks.worker_process import ServedModel, WorkerProcesses, failed
from infra.clock import SystemClock
from infra.deployments_cli import publish
from infra.kafka import KafkaCluster, KafkaPublisher
from infra.settings import KafkaSettings
from schemas.deployments import Arm, DeploymentChanged
from schemas.topics import PREDICTIONS

LOAD_SHARE = 0.5
FIRST_RATE, FIRST_SECONDS = 5.0, 1.0
DRAIN_SECONDS_MAX = 60.0
SWAPS = 4
"""A swap, a canary of a half, its promotion, and back to the worker's own model."""
CONFIRM_SECONDS = 15.0
VERSIONS = ("swap-1", "swap-2")


@dataclass(frozen=True, slots=True)
class HotSwap:
    """Two equal loads, without and with swaps of the model. `lost`: not answered, failed or shed; `twice`: more
    answers than requests.

    `versions` counts the answers by the version that gave them.
    """

    calm: StepMeasure
    swapped: StepMeasure
    lost: int
    twice: int
    versions: dict[str, int]

    @property
    def worst_added_ms(self) -> float:
        """The longest wait with swaps, less the longest without."""
        return self.swapped.max_ms - self.calm.max_ms


def hot_swap(
    kafka: KafkaSettings,
    served: ServedModel,
    texts: Sequence[str],
    *,
    capacity_per_second: float,
    seconds: float,
    seed: int,
    say: Callable[[str], None],
) -> HotSwap:
    """Send at half the capacity for so many seconds, twice: calm, then with four deployments spread over the time."""
    rate = max(1.0, LOAD_SHARE * capacity_per_second)
    scenario, run = f"bench-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex[:12]
    cluster = KafkaCluster(kafka)
    requests = [{"input": text, "scenario": scenario} for text in texts]
    with (
        WorkerProcesses(kafka, served) as processes,
        LoadExchange(kafka, requests, run=run) as exchange,
    ):
        first = exchange.run_step("constant", FIRST_RATE, FIRST_SECONDS, 0)
        if exchange.wait_answered(first.count, FIRST_ANSWER_SECONDS_MAX).owed:
            raise failed(f"the worker did not answer: {processes.last_words()}")
        measures = []
        before = ends_of(cluster, PREDICTIONS.name)
        for swaps in (0, SWAPS):
            say(f"  {rate:.0f} requests/s for {seconds:.0f} s, {swaps} deployments")
            deployer = _Deployer(kafka, served, scenario, seconds / (swaps + 1)) if swaps else None
            sent = exchange.run_step("poisson", rate, seconds, seed)
            if deployer is not None:
                deployer.finish()
            measures.append(exchange.wait_answered(sent.count - exchange.refused, DRAIN_SECONDS_MAX).measure(0))
            processes.check()
    answers, versions = _count_answers(kafka, before, ends_of(cluster, PREDICTIONS.name), scenario)
    calm, swapped = measures
    twice = sum(count - 1 for count in answers.values())
    unseen = [version for version in VERSIONS if not versions.get(version)]
    if unseen:
        raise failed(f"no request was answered by {', '.join(unseen)}: {versions}")
    lost = sum(one.sent - one.outcomes["answered"] for one in measures)
    return HotSwap(calm, swapped, lost, twice, versions)


def steps_of(served: ServedModel, scenario: str) -> list[DeploymentChanged | None]:
    """The deployments, in order; None ends them."""

    def arm(version: str, name: str = "stable", share: float = 1.0) -> Arm:
        return Arm(arm=name, model=served.model, model_name=served.name, version=version, share=share)

    return [
        DeploymentChanged(scenario=scenario, arms=[arm("swap-1")]),
        DeploymentChanged(scenario=scenario, arms=[arm("swap-1", share=0.5), arm("swap-2", "canary", 0.5)]),
        DeploymentChanged(scenario=scenario, arms=[arm("swap-2")]),
        None,
    ]


class _Deployer:
    """Publishes the deployments one after the other, on a thread of its own, beside the load."""

    def __init__(self, kafka: KafkaSettings, served: ServedModel, scenario: str, pause: float) -> None:
        self._kafka, self._pause, self._scenario = kafka, pause, scenario
        self._steps = steps_of(served, scenario)
        self._trouble: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="deployer", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for the last one. Raises what went wrong."""
        self._thread.join(CONFIRM_SECONDS + self._pause)
        if self._thread.is_alive():
            raise failed("the deployments could not be published in time")
        if self._trouble is not None:
            raise self._trouble

    def _run(self) -> None:
        publisher = KafkaPublisher(self._kafka, client_id="inferwatch-bench-deploy")
        try:
            for step in self._steps:
                time.sleep(self._pause)
                publish(publisher, SystemClock(), self._scenario, step, CONFIRM_SECONDS)
        except Exception as error:  # raised again by the thread that sends the load
            self._trouble = error
        finally:
            publisher.close(1.0)


def _count_answers(
    kafka: KafkaSettings, before: dict[int, int], after: dict[int, int], scenario: str
) -> tuple[Counter[tuple[int, int]], dict[str, int]]:
    """How often each request of the scenario was answered, and by which versions."""
    answers: Counter[tuple[int, int]] = Counter()
    versions: Counter[str] = Counter()
    for record in read_span(kafka, PREDICTIONS.name, before, after):
        answer = answer_of(record)
        if answer is None:
            continue
        told = orjson.loads(record.value or b"{}")
        if told.get("scenario") == scenario:
            answers[answer.partition, answer.offset] += 1
            versions[told.get("model", {}).get("version", "")] += 1
    return answers, dict(sorted(versions.items()))

"""What telemetry costs a worker, in processor time, as a share of all that the worker spends.

Throughput with and without cannot show 1 %: two equal runs differ by more. So a real worker runs in this process
(`python -m benchmarks.telemetry_cost`, settings as a worker's), on a real Kafka, and the calls that only exist for
telemetry and metrics are accounted with the thread's own processor clock:

* what is found out for it alone: sizes and writing systems of texts, directions of vectors, memory, a batch's facts;
* noting an outcome, counting it in the metrics, collecting it into columns, making the event of it, encoding it;
* handing the event to the Kafka client, and settling the receipts when it is delivered;
* of the client's own threads, the share of bytes that is telemetry's.

Each SIGUSR1 prints the sums so far as a line of JSON. Two such lines around a stretch of work give the share: what
telemetry spent over what the whole process spent, all threads, with the cost of measuring taken out of both.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cpu_account import CallCost, CpuAccount, find, install, measure_call_cost
from schemas.topics import TELEMETRY

HOOKS = (
    "inference_workers.admission.admit:measure",
    "inference_workers.batching.compute:directions_of",
    "inference_workers.batching.compute:MemoryLooks.memory_of",
    "inference_workers.worker.loop:batch_facts",
    "inference_workers.worker.loop:InferenceWork._tell",
    "inference_workers.worker.loop:InferenceWork._turned",
    "inference_workers.telemetry.observer:Observer.turned",
    "inference_workers.telemetry.observer:Observer.folded",
    "inference_workers.telemetry.observer:Observer.told",
    "inference_workers.telemetry.observer:Observer.sample",
    "inference_workers.telemetry.accumulator:TelemetryAccumulator.add_settled",
    "inference_workers.telemetry.accumulator:TelemetryAccumulator.add_all",
    "inference_workers.telemetry.accumulator:TelemetryAccumulator.take",
    "inference_workers.answers.records:Answers.telemetry",
    "infra.progress:Receipts.settle",
)
"""Calls that telemetry and metrics alone need. A test says when one has got another name."""
SEND = "infra.outbox:Outbox.send"
"""Hands over all records; accounted for those of the telemetry topic."""
CLIENT_THREADS = "rdk:"
"""How the Kafka client's own threads are called."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Sums since the start: seconds of processor time, calls measured, bytes handed over."""

    cpu_seconds: float
    client_seconds: float
    telemetry_seconds: float
    calls: int
    telemetry_bytes: int
    sent_bytes: int
    inside: float
    altogether: float
    by_call: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Calls and seconds of each call that is accounted."""


@dataclass(frozen=True, slots=True)
class TelemetryCost:
    """Microseconds a request, and their share of all that the worker spent."""

    telemetry_us: float
    worker_us: float
    overhead: float
    bytes_per_request: float = 0.0
    """Of telemetry, as handed to the Kafka client: before it compresses them."""
    by_call_us: dict[str, float] = field(default_factory=dict)
    """What of it each call spends, where most is spent first; `(client)` are the Kafka client's threads."""


def cost_between(first: Snapshot, last: Snapshot, requests: int) -> TelemetryCost:
    """The cost over the stretch between two snapshots. Pure."""
    calls = last.calls - first.calls
    sent = max(1, last.sent_bytes - first.sent_bytes)
    client = (last.client_seconds - first.client_seconds) * (last.telemetry_bytes - first.telemetry_bytes) / sent
    telemetry = last.telemetry_seconds - first.telemetry_seconds - calls * last.inside + client
    worker = last.cpu_seconds - first.cpu_seconds - calls * last.altogether
    spent = {"(client)": client}
    for name, (number, seconds) in last.by_call.items():
        before_number, before = first.by_call.get(name, (0, 0.0))
        spent[name] = seconds - before - (number - before_number) * last.inside
    by_call = {name: 1e6 * spent[name] / requests for name in sorted(spent, key=spent.__getitem__, reverse=True)}
    told = (last.telemetry_bytes - first.telemetry_bytes) / requests
    return TelemetryCost(1e6 * telemetry / requests, 1e6 * worker / requests, telemetry / worker, told, by_call)


class Meter:
    """The account of this process, and the bytes that went through the outbox."""

    def __init__(self) -> None:
        self.account = CpuAccount()
        self.telemetry_bytes = self.sent_bytes = 0
        self._cost: CallCost = measure_call_cost()

    def install(self) -> None:
        """Put the accounting in place. Raises HookGone."""
        install(self.account, HOOKS)
        outbox, name = find(SEND)
        plain = getattr(outbox, name)
        accounted = self.account.wrap(plain)
        meter = self

        def send(box: Any, outgoing: Any, receipts: Any, **named: Any) -> Any:
            meter.sent_bytes += len(outgoing.value)
            if outgoing.topic != TELEMETRY.name:
                return plain(box, outgoing, receipts, **named)
            meter.telemetry_bytes += len(outgoing.value)
            return accounted(box, outgoing, receipts, **named)

        setattr(outbox, name, send)

    def snapshot(self) -> Snapshot:
        """Sums so far."""
        return Snapshot(
            cpu_seconds=time.process_time(),
            client_seconds=_seconds_of_threads(CLIENT_THREADS),
            telemetry_seconds=self.account.seconds,
            calls=self.account.calls,
            telemetry_bytes=self.telemetry_bytes,
            sent_bytes=self.sent_bytes,
            inside=self._cost.inside,
            altogether=self._cost.altogether,
            by_call=self.account.by_call,
        )


def _seconds_of_threads(prefix: str) -> float:
    """Processor seconds of this process's threads of that name; 0 where /proc does not say."""
    total = 0
    for task in Path("/proc/self/task").glob("*"):
        try:
            if (task / "comm").read_text().startswith(prefix):
                total += int((task / "schedstat").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            continue  # the thread ended, or this system has no such file
    return total / 1e9


def main() -> None:
    """A worker as `inferwatch worker` runs it, with the accounting in place."""
    from inference_workers.spec import WorkerSettings
    from inference_workers.worker_cli import serve, serve_guarded
    from infra.connect import kafka_connection
    from infra.logs import setup_logging
    from infra.settings import load

    meter = Meter()
    meter.install()
    setup_logging("worker")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    signal.signal(signal.SIGUSR1, lambda *_: print(json.dumps(asdict(meter.snapshot())), flush=True))
    serve_guarded(lambda: serve(load(WorkerSettings), kafka_connection(), stop))


if __name__ == "__main__":
    main()

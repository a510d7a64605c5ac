"""Requests of which no two are alike, sent at a rate, and what Kafka acknowledged of them."""

import threading
import time
from random import Random

from confluent_kafka import Producer

from tests.chaos.checker import Deleted, Sent
from tests.chaos.servers import Servers

TOPIC = "inference.requests"
WORDS = ("red", "blue", "shoes", "jeans", "hat", "tv", "warm", "green")
TIMEOUT_MS = 3_000
POISON = ('{{"input": 5, "x": "#{name}"}}', "not json #{name}", '{{"input": "a", "task": "juggle", "x": "#{name}"}}')


class Workload:
    """A thread that sends. `acknowledged` grows; `unsure` counts what may or may not be in the log."""

    def __init__(
        self, bootstrap: str, random: Random, partitions: int, *, rate: float, poison: float = 0.02, timed: float = 0.2
    ) -> None:
        """`poison`: share of requests that cannot be read; `timed`: share that is of no use after TIMEOUT_MS."""
        self.bootstrap, self.partitions, self.rate, self.poison, self.timed = bootstrap, partitions, rate, poison, timed
        self.acknowledged: list[Sent] = []
        self.unsure = 0
        self.expected_gone = 0
        """So many of the topic that there is now were at most taken by retention before they were answered."""
        self.deleted = Deleted()
        self.last_asked_ms: dict[int, int] = {}
        """When the last request of each partition was appended."""
        self.count = 0
        self.paused = False
        self._random, self._prefix = random, f"{random.getrandbits(40):x}"
        self.topic_id = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="workload", daemon=True)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 5,
                "message.timeout.ms": 120_000,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )

    def start(self) -> None:
        self.ask_topic_id()
        self._thread.start()

    def ask_topic_id(self) -> None:
        self.topic_id = Servers(self.bootstrap, "").topic_id(TOPIC)

    def flush(self, seconds: float = 130.0) -> None:
        """Wait until all that was sent is acknowledged or given up."""
        self._producer.flush(seconds)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self.flush()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._random.expovariate(self.rate), time.monotonic() - 1.0)
            if not self.paused:
                self.send()
            self._producer.poll(0)

    def send(self) -> None:
        random, name = self._random, f"{self._prefix}-{self.count}"
        self.count += 1
        headers = []
        if random.random() < self.poison:
            value = random.choice(POISON).format(name=name)
        else:
            text = " ".join(random.choices(WORDS, k=random.randint(1, 6)))
            timeout = f', "timeout_ms": {TIMEOUT_MS}' if random.random() < self.timed else ""
            value = f'{{"input": "{text}", "scenario": "{random.choice(("search", "recommendation"))}"{timeout}}}'
            headers = [
                ("ce_specversion", b"1.0"),
                ("ce_id", name.encode()),
                ("ce_source", b"chaos"),
                ("ce_type", b"inferwatch.inference.requested.v1"),
                ("content-type", b"application/json"),
            ]
        topic_id = self.topic_id

        def delivered(error, message) -> None:
            if error is not None:
                self.unsure += 1
            else:
                self.last_asked_ms[message.partition()] = message.timestamp()[1]
                self.acknowledged.append(Sent(topic_id, message.partition(), message.offset(), name))

        self._producer.produce(
            TOPIC, value.encode(), partition=random.randrange(self.partitions), headers=headers, on_delivery=delivered
        )

"""Follows a running pipeline from outside: reads its topics, asks for ends, lags and table rows. Changes nothing.

Owns two threads: one reads records and folds them, one asks the servers. What it all means is in `traffic`, `books`.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from infra.clickhouse import ClickHouse
from infra.kafka import KafkaCluster, KafkaTail
from infra.ports import Clock, Record, RetryLater, TryAgain
from infra.settings import ClickHouseSettings, KafkaSettings
from infra.up.books import Account, Books, Rows, answers_in
from infra.up.plan import Groups
from infra.up.table_rows import count_rows, table_differences
from infra.up.traffic import Traffic
from infra.up.view import Snapshot
from schemas import topics
from schemas.dead_letters import SUFFIX

LOG = logging.getLogger(__name__)
ASK_EVERY_SECONDS = 1.0
TABLE_SHARE = 0.05
"""Asking for the table's rows may take this share of the time: with many rows it is asked less often."""
RATE_SECONDS = 10.0
"""Rates are means over so long."""
AGE_SAMPLES = 3_600
POLL_RECORDS = 2_000
CLIENT_ID = "inferwatch-up"
POLL_SECONDS = 0.1
GATHER_SECONDS = 0.2
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(slots=True)
class _Asked:
    """What the servers last said, to questions asked from `at` on (monotonic seconds)."""

    at: float = 0.0
    ends: dict[int, int] = field(default_factory=dict)
    lags: dict[str, int] = field(default_factory=dict)
    rows: Rows | None = None
    kafka_problem: str = ""
    table_problem: str = ""


class Watch:
    """The view of one run, from `start` on."""

    def __init__(
        self, kafka: KafkaSettings, clickhouse: ClickHouseSettings, groups: Groups, clock: Clock, began: float
    ) -> None:
        """`began`: when the run began, monotonic seconds. Starts nothing yet."""
        self._kafka = kafka
        self._clickhouse = ClickHouse(clickhouse)
        self._groups = groups
        self._clock = clock
        self._began = began
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._asked = _Asked()
        self._samples: deque[tuple[float, Mapping[int, int], int, int]] = deque(maxlen=AGE_SAMPLES)
        self._next_table_at = 0.0
        self._reading_problem = ""

    def start(self) -> None:
        """Note where the topics stand and begin to follow them. Blocks shortly. Raises RetryLater."""
        self._cluster = KafkaCluster(self._kafka, client_id=CLIENT_ID)
        ends = {topic: self._next_offsets(topic) for topic in _FOLLOWED}
        requests = self._next_offsets(topics.REQUESTS.name)
        books = Books(self._cluster.cluster_id, self._cluster.topic_id(topics.REQUESTS.name), requests)
        self._traffic = Traffic(books, ends[topics.ALERTS.name])
        self._asked.ends = dict(requests)
        starts = {(topic, partition): offset for topic in ends for partition, offset in ends[topic].items()}
        for partition in ends[topics.ALERTS.name]:
            starts[topics.ALERTS.name, partition] = 0  # all of it: what is open from before is shown too
        self._tail = KafkaTail(self._kafka, (), start=starts, client_id=CLIENT_ID, gather_seconds=GATHER_SECONDS)
        for work in (self._read, self._ask):
            thread = threading.Thread(target=work, name=f"up-{work.__name__.strip('_')}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Stop following; returns when the threads have ended."""
        self._stop.set()
        for thread in self._threads:
            thread.join(15.0)
        self._clickhouse.close()

    def _next_offsets(self, topic: str) -> dict[int, int]:
        return {partition: after for partition, (_, after) in self._cluster.ranges(topic).items()}

    def _read(self) -> None:
        try:
            while not self._stop.is_set():
                records = self._poll()
                if records:
                    with self._lock:
                        self._traffic.fold(records, self._clock.monotonic())
        except Exception:
            LOG.critical("reading the topics ended: figures and books stand still", exc_info=True)
            with self._lock:
                self._reading_problem = "reading the topics ended, figures stand still: see up.log"
        finally:
            self._tail.close()

    def _poll(self) -> list[Record]:
        try:
            return self._tail.poll(POLL_RECORDS, POLL_SECONDS)
        except RetryLater:
            self._stop.wait(0.5)
            return []

    def _ask(self) -> None:
        while not self._stop.wait(ASK_EVERY_SECONDS):
            try:
                self._ask_once()
            except Exception as error:  # the watch goes on, whatever a server or a client library does
                LOG.warning("asking the servers failed", exc_info=True)
                with self._lock:
                    self._asked.kafka_problem = f"asking the servers failed: {type(error).__name__} {error}"

    def _ask_once(self) -> None:
        at = self._clock.monotonic()
        ends, lags, problem = self._asked.ends, self._asked.lags, ""
        try:
            ends = self._next_offsets(topics.REQUESTS.name)
            lags = self._ask_lags()
        except (RetryLater, TryAgain) as error:
            problem = str(error)
        rows, table_problem = self._ask_table(ends)
        now = self._clock.monotonic()
        with self._lock:
            self._asked = _Asked(at, dict(ends), dict(lags), rows, problem, table_problem)
            settled = self._traffic.books.account(ends, None).settled
            self._samples.append((now, ends, settled, answers_in(rows or {})))

    def _ask_lags(self) -> dict[str, int]:
        asked = {
            self._groups.worker: (topics.REQUESTS.name,),
            self._groups.jobs: (topics.TELEMETRY.name, topics.WINDOWS.name),
        }
        return {group: sum(self._lag(group, topic) for topic in names) for group, names in asked.items()}

    def _lag(self, group: str, topic: str) -> int:
        committed = self._cluster.committed(group, topic)
        ranges = self._cluster.ranges(topic)
        return sum(max(0, after - committed.get(number, first)) for number, (first, after) in ranges.items())

    def _ask_table(self, ends: Mapping[int, int]) -> tuple[Rows | None, str]:
        began = self._clock.monotonic()
        if began < self._next_table_at:
            return self._asked.rows, self._asked.table_problem
        books = self._traffic.books
        try:
            rows = count_rows(self._clickhouse, books.cluster_id, books.topic_id, books.starts, ends)
        except (RetryLater, ValueError, TryAgain) as error:
            return self._asked.rows, str(error)
        now = self._clock.monotonic()
        self._next_table_at = now + (now - began) / TABLE_SHARE - ASK_EVERY_SECONDS
        return rows, ""

    @property
    def first_prediction_seconds(self) -> float | None:
        """From the run's begin to the first answer read; None before."""
        at = self._traffic.first_answer_at
        return None if at is None else at - self._began

    def account(self) -> Account:
        """The books as last known."""
        with self._lock:
            return self._traffic.books.account(self._asked.ends, self._asked.rows)

    def is_at_rest(self, since: float) -> bool:
        """Whether, by answers asked for after `since` (monotonic seconds), nothing is under way any more.

        The jobs' lag is not looked at: idle partitions get ticks, which are telemetry too. Their rows say it.
        """
        with self._lock:
            asked, books = self._asked, self._traffic.books
            account = books.account(asked.ends, asked.rows)
            return (
                asked.at > since
                and not asked.kafka_problem
                and account.owed == 0
                and books.is_observed(asked.ends)
                and asked.rows is not None
                and account.rows_unlike == 0
                and asked.lags.get(self._groups.worker) == 0
            )

    def differences(self) -> list[str]:
        """What does not fit, in words. Asks the table; blocks."""
        with self._lock:
            books, ends = self._traffic.books, dict(self._asked.ends)
            found = books.differences(ends)
        try:
            return found + table_differences(self._clickhouse, books, ends)
        except (RetryLater, ValueError, TryAgain) as error:
            return [*found, f"the table could not be asked: {error}"]

    def snapshot(self) -> Snapshot:
        """Everything known now."""
        now = self._clock.monotonic()
        with self._lock:
            traffic, asked = self._traffic, self._asked
            account = traffic.books.account(traffic.books.ends_at_least(asked.ends), asked.rows)
            sent_rate, settled_rate, row_rate = self._rates(now)
            return Snapshot(
                account=account,
                sent_per_second=sent_rate,
                predictions_per_second=settled_rate,
                rows_per_second=row_rate,
                recent_ms={q: traffic.recent_latency.quantile(q, now) for q in QUANTILES},
                run_ms={q: traffic.latency.quantile(q) for q in QUANTILES},
                lags=dict(asked.lags),
                oldest_owed_seconds=self._oldest_owed_seconds(now),
                dead_letters=dict(traffic.dead_letters),
                unreadable=traffic.unreadable,
                anomalies=traffic.anomalies,
                alerts_opened=traffic.alerts_opened,
                alerts_resolved=traffic.alerts_resolved,
                open_alerts=tuple(alert.summary for alert in traffic.open_alerts.values()),
                devices=tuple(sorted(traffic.devices)),
                models=tuple(sorted(traffic.models)),
                first_prediction_seconds=self.first_prediction_seconds,
                problems=tuple(
                    text for text in (self._reading_problem, asked.kafka_problem, asked.table_problem) if text
                ),
            )

    def _rates(self, now: float) -> tuple[float, float, float]:
        recent = [one for one in list(self._samples)[-int(RATE_SECONDS * 3) :] if one[0] > now - RATE_SECONDS]
        if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
            return 0.0, 0.0, 0.0
        (t0, ends0, settled0, rows0), (t1, ends1, settled1, rows1) = recent[0], recent[-1]
        sent = sum(ends1.values()) - sum(ends0.values())
        return sent / (t1 - t0), (settled1 - settled0) / (t1 - t0), (rows1 - rows0) / (t1 - t0)

    def _oldest_owed_seconds(self, now: float) -> float | None:
        """Age of the oldest owed request, from when its offset was first seen below the end: within a second."""
        owed = self._traffic.books.oldest_owed(self._asked.ends)
        ages = [0.0] if owed else []
        for partition, offset in owed.items():
            for at, ends, _, _ in reversed(self._samples):
                if ends.get(partition, 0) <= offset:
                    break
                ages.append(now - at)
        return max(ages, default=None)


_FOLLOWED = (
    topics.PREDICTIONS.name,
    topics.TELEMETRY.name,
    topics.ANOMALIES.name,
    topics.ALERTS.name,
    *(topic.name for topic in topics.DECLARED if topic.name.endswith(SUFFIX)),
)
"""Read by the watch. The request topic is not: its end offsets say enough."""

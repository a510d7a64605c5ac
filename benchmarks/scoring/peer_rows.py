"""Run in an environment of its own, by `peers`: Faust or Quix Streams with River, an event at a time.

A job as JSON on standard input: `with` (faust or quix), servers, topic, group, table with its column types, features
with their scales, how many rows an insert takes. Runs until it is stopped. Nothing of inferwatch is imported.
"""

from __future__ import annotations

import datetime
import importlib
import json
import sys
import time
from typing import Any

FLUSH_SECONDS = 1.0


class Scorer:
    """What both do with an event: River's half-space trees score and learn it, its row waits for an insert."""

    def __init__(self, job: dict[str, Any]) -> None:
        # Imported by name: these packages are in this environment.
        anomaly: Any = importlib.import_module("river.anomaly")
        clickhouse: Any = importlib.import_module("clickhouse_connect")
        self._job, self._trees = job, anomaly.HalfSpaceTrees
        self._models: dict[tuple[str, str], Any] = {}
        self._client = clickhouse.get_client(dsn=job["clickhouse"])
        self._rows: list[list[Any]] = []
        self._stored_at = time.monotonic()

    def take(self, event: dict[str, Any]) -> None:
        """One event."""
        scales, row_window = self._job["scales"], self._job["row_window"]
        told = {**event, "error": 1.0 if event["outcome"] == "failed" else 0.0}
        features = {name: told[name] / (told[name] + scale) for name, scale in scales.items()}
        key = (event["model"], event["scenario"])
        if key not in self._models:
            limits = dict.fromkeys(scales, (0.0, 1.0))
            self._models[key] = [self._trees(window_size=row_window, limits=limits, seed=1), 0]
        model, seen = self._models[key]
        score = model.score_one(features)
        model.learn_one(features)
        self._models[key][1] += 1
        now = datetime.datetime.now(datetime.UTC)
        appended = datetime.datetime.fromtimestamp(event["appended_ms"] / 1000, datetime.UTC)
        made = {"score": score, "learning": seen < row_window, "appended_at": appended, "served_at": now}
        row = {**event, **made}
        self._rows.append([row.get(name, empty) for name, _, empty in self._job["columns"]])
        if len(self._rows) >= self._job["insert_rows"]:
            self.store()

    def store(self) -> None:
        """Insert what waits."""
        if self._rows:
            names = [name for name, _, _ in self._job["columns"]]
            types = [kind for _, kind, _ in self._job["columns"]]
            self._client.insert(self._job["table"], self._rows, column_names=names, column_type_names=types)
            self._rows = []
        self._stored_at = time.monotonic()

    def store_late(self) -> None:
        """Insert what has waited for a second."""
        if time.monotonic() - self._stored_at >= FLUSH_SECONDS:
            self.store()


def with_faust(job: dict[str, Any]) -> None:
    """An agent over a topic of JSON values."""
    faust: Any = importlib.import_module("faust")
    mode: Any = importlib.import_module("mode")
    scorer = Scorer(job)
    app = faust.App(
        job["group"], broker=f"kafka://{job['kafka']}", value_serializer="json", store="memory://", web_enabled=False,
        topic_allow_declare=False, topic_disable_leader=True, consumer_auto_offset_reset="earliest",
    )  # fmt: skip
    topic = app.topic(job["topic"])

    @app.agent(topic)  # type: ignore[untyped-decorator]
    async def score(events: Any) -> None:
        async for event in events:
            scorer.take(event)

    @app.timer(interval=FLUSH_SECONDS)  # type: ignore[untyped-decorator]
    async def late() -> None:
        scorer.store_late()

    mode.Worker(app, quiet=True, loglevel="WARN").execute_from_commandline()


def with_quix(job: dict[str, Any]) -> None:
    """An application over the same topic."""
    quix: Any = importlib.import_module("quixstreams")
    scorer = Scorer(job)
    app = quix.Application(
        broker_address=job["kafka"], consumer_group=job["group"], auto_offset_reset="earliest",
        auto_create_topics=False, loglevel="WARNING",
    )  # fmt: skip
    rows = app.dataframe(app.topic(job["topic"], value_deserializer="json"))
    rows.update(scorer.take)
    app.run()


def main() -> None:
    """Read the job and run it."""
    job = json.load(sys.stdin)
    {"faust": with_faust, "quix": with_quix}[job["with"]](job)


if __name__ == "__main__":
    main()

"""What `up` asks of the real Kafka and ClickHouse: make the topics and tables, then follow the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from infra.ports import Clock, RetryLater
from infra.settings import ClickHouseSettings, KafkaSettings, StackSettings
from infra.up.child_log import ChildLog
from infra.up.plan import Groups

if TYPE_CHECKING:
    from infra.up.guard import Guard, Target
    from infra.up.watch import Watch

RETRY_SECONDS = 30.0


class RealServers:
    """See `run.Servers`. What it imports is heavy and is imported while the children start."""

    def __init__(
        self,
        kafka: KafkaSettings,
        clickhouse: ClickHouseSettings,
        stack: StackSettings,
        groups: Groups,
        clock: Clock,
        began: float,
        log: ChildLog,
    ) -> None:
        self._kafka = kafka
        self._clickhouse = clickhouse
        self._stack = stack
        self._groups = groups
        self._clock = clock
        self._began = began
        self._log = log

    def prepare(self) -> None:
        """Import what the other methods need."""
        import infra.migrations
        import infra.provision
        import infra.up.watch  # noqa: F401 - imported for what comes next

    def apply_topics(self) -> Watch:
        """See `run.Servers.apply_topics`. Raises ProvisionRefused, TryAgain, RetryLater."""
        from infra.provision import apply_topics
        from infra.up.watch import Watch

        self._patiently(lambda: apply_topics(self._kafka, self._stack, say=self._note))
        watch = Watch(self._kafka, self._clickhouse, self._groups, self._clock, self._began)
        self._patiently(watch.start)
        return watch

    def apply_tables(self) -> None:
        """See `run.Servers.apply_tables`. Raises MigrationRefused, TryAgain, RetryLater."""
        from infra.migrate import apply_tables

        self._patiently(lambda: apply_tables(self._clickhouse, say=self._note))

    def guard(self, targets: Callable[[], Sequence[Target]]) -> Guard:
        """See `run.Servers.guard`."""
        from infra.up.guard import guard_of

        guard = guard_of(self._kafka, self._clickhouse, self._groups.jobs, targets, self._clock)
        guard.start()
        return guard

    def _patiently(self, work: Callable[[], object]) -> None:
        """Do it, again while the server says later. Raises its last RetryLater after 30 s."""
        deadline = self._clock.monotonic() + RETRY_SECONDS
        while True:
            try:
                work()
                return
            except RetryLater as error:
                if self._clock.monotonic() > deadline:
                    raise
                self._note(f"again: {error}")
                time.sleep(0.2)

    def _note(self, text: str) -> None:
        self._log.write(f"{self._clock.monotonic() - self._began:.3f} {text}\n".encode())

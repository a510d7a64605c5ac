"""One run of `inferwatch up`: start, show, and stop in order.

The main thread owns the children (they end with the thread that started them), looks at everything a few times a
second and never blocks for long; signals only set a flag.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from infra.ports import Clock
from infra.up.child_log import ChildLog
from infra.up.children import Child, Children, ChildSpec
from infra.up.folder import StackFolder
from infra.up.plan import CLICKHOUSE, KAFKA, SERVING, SIMULATOR, TABLES, TOPICS, Addresses, Groups
from infra.up.processes import ProcessTable
from infra.up.steps import Step
from infra.up.summary import Summary, books_in_words
from infra.up.supervision import ChildState
from infra.up.versions import versions
from infra.up.view import ProcessRow, View

if TYPE_CHECKING:
    from infra.up.guard import Guard, Target
    from infra.up.live import Display
    from infra.up.watch import Watch

LOOK_EVERY_SECONDS = 0.05
SHOW_EVERY_SECONDS = 0.5
PROCESSES_EVERY_SECONDS = 2.0
JOBS_WAIT_SECONDS = 15.0
"""The jobs start after the first prediction, because their imports would slow it down, but not later than this."""
PREPARED = "prepared"
EVENTS_SHOWN = 5
LAST_LINES = 15


class UpFailed(Exception):
    """The run cannot go on; the text says why. `exit_code` is the process's."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class Servers(Protocol):
    """What `up` itself asks of Kafka and ClickHouse. Called on threads of their own, so that nothing waits for it."""

    def prepare(self) -> None:
        """Import what the others need, while the servers start."""

    def apply_topics(self) -> Watch:
        """Make the topics and begin to follow them. Blocks."""

    def apply_tables(self) -> None:
        """Make the tables. Blocks."""

    def guard(self, targets: Callable[[], Sequence[Target]]) -> Guard:
        """Begin to look whether the jobs make progress. Asked for when there are jobs, and topics."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a run takes place. `where`: as `View.where`, for people."""

    addresses: Addresses
    folder: StackFolder
    groups: Groups
    where: tuple[tuple[str, str], ...]
    guarded: Mapping[str, int] = field(default_factory=dict)
    """Health ports of the jobs, by name: a watchdog starts those again that make no progress."""


@dataclass(frozen=True, slots=True)
class RunLimit:
    """How long: `traffic_seconds` None is until told to stop. `drain_seconds` bounds the wait for what is under way.
    `until_answered`: the first prediction ends the traffic sooner."""

    traffic_seconds: float | None
    drain_seconds: float
    until_answered: bool = False


class Up:
    """A run on one folder, used once."""

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        limit: RunLimit,
        site: Site,
        servers: Servers,
        log: ChildLog,
        clock: Clock,
        began: float,
    ) -> None:
        """`began`: when the process began, monotonic seconds. `log` is closed at the end."""
        self._limit = limit
        self._site = site
        self._servers = servers
        self._clock = clock
        self._began = began
        self._log = log
        self._watch: Watch | None = None
        self._guard: Guard | None = None
        self._display: Display | None = None
        self._milestones: set[str] = set()
        self._stop_signals = 0
        self._events: deque[str] = deque(maxlen=EVENTS_SHOWN)
        self._children = Children(specs, site.folder.logs, clock, self.say)
        self._steps = [
            Step(PREPARED, frozenset(), servers.prepare),
            Step(TOPICS, frozenset({KAFKA, PREPARED}), self._apply_topics),
            Step(TABLES, frozenset({CLICKHOUSE, PREPARED}), servers.apply_tables),
        ]
        self._table = ProcessTable()
        self._rows: tuple[ProcessRow, ...] = ()
        self._next_show = self._next_rows = 0.0
        self._phase = "starting"
        self._topics_at: float | None = None
        if site.addresses.kafka_port is None:
            self._milestones.add(KAFKA)
        if site.addresses.clickhouse_port is None:
            self._milestones.add(CLICKHOUSE)

    def _apply_topics(self) -> None:
        self._watch = self._servers.apply_topics()

    def say(self, text: str) -> None:
        """Tell people and the log what happened. Thread-safe enough: a deque and a locked file."""
        elapsed = self._clock.monotonic() - self._began
        self._events.append(f"{elapsed:7.1f} s  {text}")
        self._log.write(f"{elapsed:.3f} {text}\n".encode())
        if self._display is not None:
            self._display.say(text)

    def run(self) -> Summary | None:
        """Until told to stop, or for the time given; the summary in the latter case. Raises UpFailed.

        However it ends, no process of it is left.
        """
        with self._signals():
            try:
                self._children.look(self._milestones)  # before anything else is imported
                self._open_display()
                return self._run()
            finally:
                self._shut_down()

    def _open_display(self) -> None:
        from infra.up.live import display_for

        self._log.write("".join(f"{name}: {place}\n" for name, place in self._site.where).encode("utf-8", "replace"))
        self._display = display_for(sys.stderr)
        self._display.open()

    def _run(self) -> Summary | None:
        traffic_began: float | None = None
        while not self._stop_signals:
            self._look()
            if traffic_began is None and self._traffic_flows():
                traffic_began = self._clock.monotonic()
            if traffic_began is not None and self._is_enough(self._clock.monotonic() - traffic_began):
                return self._finish(traffic_began)
        return None

    def _is_enough(self, traffic_seconds: float) -> bool:
        limit = self._limit.traffic_seconds
        answered = self._watch is not None and self._watch.first_prediction_seconds is not None
        return (limit is not None and traffic_seconds >= limit) or (self._limit.until_answered and answered)

    def _traffic_flows(self) -> bool:
        simulator = self._children.by_name.get(SIMULATOR)
        return TOPICS in self._milestones and (simulator is None or simulator.state is ChildState.RUNNING)

    def _look(self) -> None:
        time.sleep(LOOK_EVERY_SECONDS)
        self._children.look(self._milestones)
        for step in self._steps:
            step.look(self._milestones)
            if step.error is not None:
                raise UpFailed(f"{step.name}: {step.error}", getattr(step.error, "exit_code", 75))
        self._note_serving()
        for child in self._children.by_name.values():
            self._check(child)
        self._replace_what_hangs()
        self._show()

    def _replace_what_hangs(self) -> None:
        if self._guard is None:
            if SERVING in self._milestones and self._site.guarded:
                self._guard = self._servers.guard(self._targets)
            return
        for due in self._guard.due():
            child = self._children.by_name[due.target.name]
            if child.pid == due.target.pid:
                child.replace(due.why)

    def _targets(self) -> list[Target]:
        """The jobs that run, for the watchdog's thread."""
        from infra.up.guard import Target

        pids = {name: self._children.by_name[name].pid for name in self._site.guarded}
        ports = self._site.guarded
        return [Target(name, pid, f"http://127.0.0.1:{ports[name]}") for name, pid in pids.items() if pid is not None]

    def _note_serving(self) -> None:
        now = self._clock.monotonic()
        if self._topics_at is None and TOPICS in self._milestones:
            self._topics_at = now
            self.say("topics are there")
        if self._topics_at is None or SERVING in self._milestones:
            return
        first = None if self._watch is None else self._watch.first_prediction_seconds
        if first is not None:
            self.say(f"first prediction after {first:.1f} s")
        if first is not None or now - self._topics_at > JOBS_WAIT_SECONDS:
            self._milestones.add(SERVING)
            self._phase = "running"

    def _check(self, child: Child) -> None:
        """A server that cannot start, or a command that refuses its settings: the whole run ends and says so."""
        never_ready = child.spec.says_ready and child.spec.name not in self._milestones
        failed = child.state is ChildState.FAILED or (child.state is ChildState.WAITING and never_ready)
        if failed:
            last = "\n".join(list(child.log.recent)[-LAST_LINES:])
            status = child.exit_status if child.exit_status is not None and child.exit_status > 0 else 70
            raise UpFailed(f"{child.spec.name} cannot run. Its last lines ({child.log.path}):\n{last}", status)

    def _show(self) -> None:
        now = self._clock.monotonic()
        if now >= self._next_rows:
            self._next_rows = now + PROCESSES_EVERY_SECONDS
            self._rows = self._table.sample(list(self._children.by_name.values()))
        if now >= self._next_show:
            self._next_show = now + SHOW_EVERY_SECONDS
            if self._display is not None:
                self._display.show(self._view(now))

    def _view(self, now: float) -> View:
        return View(
            phase=self._phase,
            uptime_seconds=now - self._began,
            processes=self._rows,
            snapshot=None if self._watch is None else self._watch.snapshot(),
            events=tuple(self._events),
            where=self._site.where,
        )

    def _finish(self, traffic_began: float) -> Summary:
        """End the traffic, wait until nothing is under way, and sum up."""
        assert self._watch is not None  # traffic flows only after the topics are there
        self._phase = "ending the traffic"
        if SIMULATOR in self._children.by_name:
            self._children.stop([SIMULATOR], self._pause)
        seconds = self._clock.monotonic() - traffic_began
        self._phase = "draining"
        self.say("traffic ended, waiting for what is under way")
        ended = self._clock.monotonic()
        deadline = ended + self._limit.drain_seconds
        while not (drained := self._watch.is_at_rest(ended)) and not self._stop_signals:
            if self._clock.monotonic() > deadline:
                break
            self._look()
        account = self._watch.account()
        return Summary(
            seconds=seconds,
            snapshot=replace(self._watch.snapshot(), account=account),
            drained=drained,
            restarts={name: child.history.restarts for name, child in self._children.by_name.items()},
            versions=versions(),
            differences=[] if account.balanced else self._watch.differences(),
            traffic_asked=SIMULATOR in self._children.by_name,
        )

    def _pause(self) -> bool:
        time.sleep(LOOK_EVERY_SECONDS)
        self._show()
        return self._stop_signals > 1

    def _shut_down(self) -> None:
        self._phase = "stopping"
        self.say("stopping in order")
        if self._guard is not None:
            self._guard.stop()
        if self._watch is not None:
            self._watch.stop()  # first: it must not ask servers that are being stopped
        try:
            self._children.stop(None, self._pause)
        finally:
            self._children.close()
            if self._display is not None:
                self._display.close()
            self._log.close()

    def last_words(self) -> str:
        """What there is to say after a run that was told to stop."""
        words = f"stopped after {self._clock.monotonic() - self._began:.0f} s"
        if self._watch is not None:
            words += f": {books_in_words(self._watch.account().as_json())}"
        return f"{words}. Logs: {self._site.folder.logs}"

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, frame: object) -> None:
            self._stop_signals += 1

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

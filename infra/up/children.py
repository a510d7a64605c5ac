"""Child processes under supervision: start, see them ready, start again when they end, stop in order.

Owns the processes; what to do when one ends is decided in `supervision`. Children end with this process, however
it ends, and nothing of them is left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from infra.embedded.parent import launch_command
from infra.ports import Clock
from infra.up.child_log import LINE_BYTES_MAX, ChildLog
from infra.up.supervision import ChildHistory, ChildState, GiveUp, RestartPolicy

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A process to run. It starts once everything in `needs` has come; `stop_rank` 0 is stopped first."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    stop_rank: int = 0
    stop_seconds: float = 20.0
    """From asking it to stop to killing it."""
    says_ready: bool = False
    """True when it prints one JSON line with "ready": true on stdout once it can be used."""


class Child:
    """One supervised process. Used by one thread, which must live as long as the process does."""

    def __init__(
        self, spec: ChildSpec, log: ChildLog, clock: Clock, say: Say, policy: RestartPolicy | None = None
    ) -> None:
        self.spec = spec
        self.state = ChildState.PLANNED
        self.history = ChildHistory(spec.name, policy or RestartPolicy())
        self.facts: dict[str, Any] | None = None
        """What its ready line said; None before."""
        self.exit_status: int | None = None
        """How it last ended."""
        self.log = log
        self._clock = clock
        self._say = say
        self._start_at = 0.0
        self._kill_at: float | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pumps: list[threading.Thread] = []

    @property
    def pid(self) -> int | None:
        """Process id while it runs. From any thread."""
        process = self._process
        return None if process is None else process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it can be used: it said so, or it never says and runs."""
        return self.state is ChildState.RUNNING

    def start(self) -> None:
        """Start it now. A command that cannot be run counts as an end with status 127."""
        self.history.started(self._clock.monotonic())
        self.facts = None
        try:
            process = subprocess.Popen(
                launch_command(list(self.spec.command)),
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.spec.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C in the terminal reaches this process alone, which stops in order
            )
        except OSError as error:
            self._say(f"{self.spec.name} cannot be started: {error}")
            self._ended(127)
            return
        self._process = process
        self.state = ChildState.STARTING if self.spec.says_ready else ChildState.RUNNING
        assert process.stdout is not None
        assert process.stderr is not None
        self._pumps = [
            threading.Thread(target=self._pump, args=(stream, listen), name=f"{self.spec.name}-log", daemon=True)
            for stream, listen in ((process.stdout, self.spec.says_ready), (process.stderr, False))
        ]
        for pump in self._pumps:
            pump.start()

    def look(self) -> None:
        """Notice that it is ready or ended, and start it again when its time has come. Never blocks."""
        if self.state is ChildState.WAITING and self._clock.monotonic() >= self._start_at:
            self.start()
        elif self.state in (ChildState.STARTING, ChildState.RUNNING):
            status = None if self._process is None else self._process.poll()
            if status is not None:
                self._ended(status)
            elif self._kill_at is not None and self._clock.monotonic() >= self._kill_at:
                self.kill()
            elif self.state is ChildState.STARTING and self.facts is not None:
                self.state = ChildState.RUNNING
                if self.history.restarts:
                    self._say(f"{self.spec.name} is ready again")

    def replace(self, why: str) -> None:
        """It must end and start again: SIGTERM now, SIGKILL if it runs after its `stop_seconds`. Does not wait."""
        if self.pid is not None and self._kill_at is None:
            self._say(f"{self.spec.name} (process {self.pid}) is ended and started again: {why}")
            self._signal(signal.SIGTERM)
            self._kill_at = self._clock.monotonic() + self.spec.stop_seconds

    def _ended(self, status: int) -> None:
        self._clean_up()
        self._kill_at = None
        self.exit_status = status
        decision = self.history.ended(self._clock.monotonic(), status)
        self._say(decision.say)
        if isinstance(decision, GiveUp):
            self.state = ChildState.FAILED
        else:
            self.state, self._start_at = ChildState.WAITING, decision.at

    def ask_to_stop(self) -> None:
        """SIGTERM: it stops in order. Does not wait."""
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGTERM)
            self.state = ChildState.STOPPING
        else:
            self.state = ChildState.STOPPED

    def kill(self) -> None:
        """SIGKILL to it and all that it started. Does not wait."""
        self._signal(signal.SIGKILL)

    def has_stopped(self) -> bool:
        """Whether it has ended after `ask_to_stop` or `kill`; then nothing of it is left."""
        if self._process is not None:
            status = self._process.poll()
            if status is None:
                return False
            self.exit_status = status
            self._clean_up()
        self.state = ChildState.STOPPED
        return True

    def _clean_up(self) -> None:
        # Its own children normally ended with it; one that did not is in its group.
        self._signal(signal.SIGKILL)
        for pump in self._pumps:
            pump.join(1.0)
        self._process = None

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number == signal.SIGKILL or sys.platform != "linux":
                os.killpg(process.pid, number)
            else:
                # Where the kernel ties children to parents the launcher became the program itself: it alone is
                # asked, and stops its own children in its own order.
                process.send_signal(number)

    def _pump(self, stream: IO[bytes], listen: bool) -> None:
        with stream:
            while line := stream.readline(LINE_BYTES_MAX):
                self.log.write(line if line.endswith(b"\n") else line + b"\n")
                if listen and b'"ready"' in line:
                    with contextlib.suppress(ValueError):
                        facts = json.loads(line)
                        if isinstance(facts, dict) and facts.get("ready") is True:
                            self.facts = facts


class Children:
    """All children of one run, by name. Used by one thread, which must live as long as they do."""

    def __init__(self, specs: Iterable[ChildSpec], log_folder: Path, clock: Clock, say: Say) -> None:
        self._clock = clock
        self._say = say
        self.by_name = {spec.name: Child(spec, ChildLog(log_folder / f"{spec.name}.log"), clock, say) for spec in specs}

    def look(self, milestones: set[str]) -> None:
        """Start what may start now, notice what ended. A child that is ready is a milestone of its name."""
        for child in self.by_name.values():
            if child.state is ChildState.PLANNED and child.spec.needs <= milestones:
                child.start()
            child.look()
            if child.is_ready:
                milestones.add(child.spec.name)

    def stop(self, names: Iterable[str] | None, pause: Callable[[], bool]) -> None:
        """Stop the named children (None: all) rank by rank, each with its deadline, then by force.

        `pause` waits a moment and returns True when there is no time left: then all are killed at once.
        """
        chosen = [self.by_name[name] for name in (self.by_name if names is None else names)]
        hurry = False
        for rank in sorted({child.spec.stop_rank for child in chosen}):
            group = [child for child in chosen if child.spec.stop_rank == rank]
            for child in group:
                child.ask_to_stop()
            asked = self._clock.monotonic()
            killed: set[str] = set()  # the system may take a while to end them
            while self._some_run(group):
                waited = self._clock.monotonic() - asked
                for child in group:
                    name, seconds = child.spec.name, child.spec.stop_seconds
                    if child.state is ChildState.STOPPING and name not in killed and (hurry or waited > seconds):
                        if not hurry:
                            self._say(f"{name} did not stop in {seconds:g} s: killed")
                        child.kill()
                        killed.add(name)
                hurry = pause() or hurry

    @staticmethod
    def _some_run(group: list[Child]) -> bool:
        stopped = [child.has_stopped() for child in group]
        return not all(stopped)

    def close(self) -> None:
        """Close the logs."""
        for child in self.by_name.values():
            child.log.close()

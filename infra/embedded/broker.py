"""A real Apache Kafka, one node, for development, trials and tests: start it on a data folder, stop it, nothing left.

Owns the Java child and its files in `<data>/kafka`. Not for production: one node, no users, this machine only.
`python -m infra.embedded.broker --data DIR` runs it in the foreground, for a supervisor.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.embedded import kafka_config
from infra.embedded.child import OUTPUT, Child, last_lines
from infra.embedded.data_folder import Claim, DataFolder, is_free
from infra.embedded.disk import full_disk_named, full_disk_note
from infra.embedded.errors import EmbeddedError, NotReady
from infra.embedded.kafka_probe import groups_are_ready
from infra.embedded.kafka_runtime import KafkaRuntime, Say, prepare_kafka
from infra.embedded.kafka_storage import format_once, java_child, write_files
from infra.embedded.parent import watch_parent

START_DEADLINE_S = 120.0  # a start takes 1.5 s; one after a kill also reads the newest segments again
STOP_DEADLINE_S = 15.0  # SIGTERM to SIGKILL; a stop takes 0.3 s
PROBE_TIMEOUT_S = 2.0
LOOK_EVERY_S = 0.05
PORT_TRIES = 3  # between choosing a free port and Kafka's taking it, another program may
LOG_LINES = 15


class EmbeddedKafka:
    """One Kafka on one data folder. A context manager: started on entry, stopped on exit.

    Java ends with this process, however it ends, and holds the folder's lock until it has. Not for use by several
    threads at once, but any thread may start it.
    """

    def __init__(self, folder: Path, port: int = 0, say: Say = lambda text: None, cache: Path | None = None) -> None:
        """`folder`: the data folder, shared with other components. `port` 0: the last one, or any free one.

        `say` is told about what takes long. `cache`: where the jars are kept, see kafka_runtime.
        """
        self._data_folder = DataFolder(folder)
        self._port = port
        self._say = say
        self._cache = cache
        self._claim: Claim | None = None
        self._java: Child | None = None
        self.bootstrap_servers: str | None = None
        self.cluster_id: str | None = None

    @property
    def pid(self) -> int | None:
        """Java's process id; None before start() and after stop()."""
        return None if self._java is None else self._java.pid

    def start(self) -> str:
        """Start, wait until topics, records and consumer groups can be used, and return the bootstrap servers.

        Raises FolderInUse, PortTaken, FetchFailed, WrongFile, UnsuitableMachine, DiskFull, or NotReady with the last
        lines of the log. Nothing is left running when it raises.
        """
        if self._claim is not None:
            raise RuntimeError("started already")
        self._claim = self._data_folder.claim("kafka")
        try:
            runtime = prepare_kafka(self._cache, self._say)
            with full_disk_named(self._claim.folder):
                self.cluster_id = format_once(self._claim, runtime)
                return self._start_java(self._claim, runtime)
        except BaseException:
            self.stop()
            raise

    def poll(self) -> int | None:
        """Java's exit status once it has ended (negative: the signal that ended it), else None."""
        return None if self._java is None else self._java.status

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for Java to end; its exit status, or None after `timeout_s` seconds."""
        return None if self._java is None else self._java.wait(timeout_s)

    def stop(self) -> None:
        """End Kafka: SIGTERM, then SIGKILL after 15 seconds. Returns when it has ended; may be called again."""
        try:
            if self._java is not None:
                self._java.end(STOP_DEADLINE_S)
        finally:
            self._java = None
            if self._claim is not None:
                self._claim.release()
                self._claim = None

    def last_log_lines(self) -> str:
        """The newest lines of Kafka's log and of what Java printed itself, for an error message.

        The last line says so when the disk is full: then Kafka ends, and may have had no room to log why.
        """
        folder = self._data_folder.path / "kafka"
        lines = last_lines(folder / kafka_config.LOG, LOG_LINES) + last_lines(folder / OUTPUT, LOG_LINES)
        note = full_disk_note(folder)
        return "\n".join([*lines, note] if note else lines)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_java(self, claim: Claim, runtime: KafkaRuntime) -> str:
        for attempt in range(1, PORT_TRIES + 1):
            port = claim.choose_port("broker", self._port)
            controller_port = claim.choose_port("controller")
            write_files(claim.folder, port, controller_port)
            self._java = java_child(claim, runtime, "kafka.Kafka", "server.properties")
            self._java.start()
            try:
                self._wait_until_ready(port)
            except NotReady:
                self._java.end(STOP_DEADLINE_S)
                if attempt == PORT_TRIES or (is_free(port) and is_free(controller_port)):
                    raise
                self._say("another program took the port; trying the next")
                continue
            self.bootstrap_servers = f"127.0.0.1:{port}"
            return self.bootstrap_servers
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _wait_until_ready(self, port: int) -> None:
        assert self._java is not None
        assert self._claim is not None
        log = self._claim.folder / kafka_config.LOG
        deadline = time.monotonic() + START_DEADLINE_S
        started = False
        while time.monotonic() < deadline:
            status = self._java.wait(LOOK_EVERY_S)
            if status is not None:
                raise NotReady(self._why(f"ended while it started (status {status})"))
            started = started or kafka_config.READY_LINE in "\n".join(last_lines(log, LOG_LINES))
            if started and groups_are_ready(port, kafka_config.OFFSETS_PARTITIONS, PROBE_TIMEOUT_S):
                return
        raise NotReady(self._why(f"was not ready after {START_DEADLINE_S:.0f} s"))

    def _why(self, what: str) -> str:
        folder = self._data_folder.path / "kafka"
        lines = self.last_log_lines() or "(its log is empty)"
        return (
            f"the embedded Kafka on {folder} {what}. Its last lines:\n{lines}\n"
            "Ways out: try again; or choose another data folder; or set INFERWATCH_KAFKA_BOOTSTRAP_SERVERS to a "
            "Kafka that runs."
        )


class _StopRequested(BaseException):
    """SIGTERM or SIGINT came: leaves whatever the main thread waits in, like KeyboardInterrupt."""


def main(arguments: list[str] | None = None) -> int:
    """Run in the foreground until SIGTERM or SIGINT (0), or until Kafka ends by itself (75)."""
    parser = argparse.ArgumentParser(prog="python -m infra.embedded.broker", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data folder")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0: the last one, or any free one")
    parser.add_argument("--parent", type=int, help="stop when process PARENT, which started this one, ends")
    options = parser.parse_args(arguments)
    _on_stop_signals()
    if options.parent is not None:
        watch_parent(options.parent, lambda: os.kill(os.getpid(), signal.SIGTERM))
    broker = EmbeddedKafka(options.data, options.port, say=_to_stderr)
    try:
        with broker:
            _announce(broker)
            status = broker.wait()
            _to_stderr(f"the embedded Kafka ended by itself (status {status}):\n{broker.last_log_lines()}")
            return NotReady.exit_code
    except _StopRequested:
        return 0
    except EmbeddedError as error:
        _to_stderr(str(error))
        return error.exit_code


def _on_stop_signals() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT)

    def stop(number: int, frame: object) -> None:
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)  # stopping has a deadline of its own
        raise _StopRequested

    for number in numbers:
        signal.signal(number, stop)


def _announce(broker: EmbeddedKafka) -> None:
    facts = {
        "ready": True,
        "bootstrap_servers": broker.bootstrap_servers,
        "cluster_id": broker.cluster_id,
        "java_pid": broker.pid,
    }
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()


_to_stderr: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731, T201


if __name__ == "__main__":
    sys.exit(main())

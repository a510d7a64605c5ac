"""The process of the embedded ClickHouse: `python -m infra.embedded.clickhouse_front --data DIR`.

Prints one JSON line when it is ready and serves until SIGTERM or SIGINT. For development, trials and tests: one
process, one folder, no users, and the loopback address only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from infra.embedded.clickhouse_body import Spool
from infra.embedded.clickhouse_engine import Engine, EngineError, EngineLimits
from infra.embedded.clickhouse_http import FrontServer
from infra.embedded.clickhouse_room import RESERVE_BYTES, RoomWatch
from infra.embedded.clickhouse_service import Admission, Service
from infra.embedded.data_folder import Claim, DataFolder
from infra.embedded.disk import full_disk_named, full_disk_note, require_room
from infra.embedded.errors import DiskFull, EmbeddedError
from infra.embedded.parent import PR_SET_PDEATHSIG, watch_parent
from infra.embedded.write_fence import fence_writes

READS_END_S, WRITES_END_S = 1.0, 10.0


def _parser() -> argparse.ArgumentParser:
    admission = Admission()
    parser = argparse.ArgumentParser(
        prog="python -m infra.embedded.clickhouse_front",
        description="The real ClickHouse engine of the chdb package, behind ClickHouse's HTTP interface on 127.0.0.1.",
        epilog="Example: python -m infra.embedded.clickhouse_front --data var/embedded --port 8123",
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="data folder; this keeps its files in DIR/clickhouse")
    add("--port", type=int, default=0, help="TCP port; 0 (default): the last one of this folder, else a free one")
    add("--queries-max", type=int, default=admission.queries_max, help="statements at once, inserts apart")
    add("--inserts-max", type=int, default=admission.inserts_max, help="inserts at once")
    add("--waiting-max", type=int, default=admission.waiting_max, help="statements that may wait for their turn")
    add("--body-mib-max", type=int, default=256, help="largest body of one request, MiB")
    add("--memory-mib", type=int, default=EngineLimits().server_memory_bytes >> 20, help="memory of the engine, MiB")
    add(
        "--die-with-parent",
        type=int,
        nargs="?",
        const=0,
        metavar="PID",
        help="end when the parent (process PID, if given) ends",
    )
    return parser


def _limits(memory_mib: int) -> EngineLimits:
    server = memory_mib << 20
    return EngineLimits(server_memory_bytes=server, query_memory_bytes=server * 2 // 3, mark_cache_bytes=server // 12)


def _die_with_parent(parent: int) -> None:
    """Ends this process at once when its parent ends: the folder survives a kill, an orphan would hold its lock."""
    if sys.platform == "linux":
        # The kernel is quicker than the watch, which notices up to half a second later.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    watch_parent(parent or os.getppid(), lambda: os._exit(75))


def _serve(claim: Claim, arguments: argparse.Namespace, began: float) -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # Before the engine and its threads: what slips through the engine's own access control then still writes nothing.
    fenced = fence_writes(arguments.data)
    port = claim.choose_port("http", arguments.port)
    require_room(claim.folder, RESERVE_BYTES)
    engine = Engine(claim.folder / "engine", _limits(arguments.memory_mib))
    admission = Admission(arguments.queries_max, arguments.inserts_max, arguments.waiting_max)
    room = RoomWatch(claim.folder, engine.allow_merges)
    service = Service(engine, admission, room)
    spool = Spool(claim.folder / "spool", arguments.body_mib_max << 20)
    server = FrontServer(port, service, spool, engine.version)
    server.watch.start()
    room.start()
    accepting = threading.Thread(target=server.serve_forever, name="clickhouse-accept", daemon=True)
    accepting.start()
    ready = {"ready": True, "url": f"http://127.0.0.1:{port}", "version": engine.version, "pid": os.getpid()}
    ready |= {"writes_fenced": fenced, "start_s": round(time.monotonic() - began, 3)}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    stop.wait()
    server.closing = True
    server.shutdown()
    server.server_close()
    if not server.wait_idle(READS_END_S):
        service.stop_reads()
    idle = server.wait_idle(WRITES_END_S)
    server.watch.close()
    room.close()
    service.close()
    if idle:
        engine.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the front; returns the exit code of the process."""
    began = time.monotonic()
    arguments = _parser().parse_args(argv)
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if arguments.die_with_parent is not None:
        _die_with_parent(arguments.die_with_parent)
    try:
        with DataFolder(arguments.data).claim("clickhouse") as claim, full_disk_named(claim.folder):
            _serve(claim, arguments, began)
    except EmbeddedError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except EngineError as error:
        note = full_disk_note(arguments.data, RESERVE_BYTES)
        sys.stderr.write(
            f"the ClickHouse engine cannot open {arguments.data}: {error}\n" + (f"{note}\n" if note else "")
        )
        return DiskFull.exit_code if note else 70
    return 0


def end_process(code: int) -> None:
    """Ends the process without the interpreter's clean-up, which the engine's own threads do not expect."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    end_process(main())

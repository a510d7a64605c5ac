"""Whether a run came to what a clean replay of its telemetry comes to: rows, events, final state, to the bit."""

import json
import struct
import zlib
from collections import Counter, defaultdict

import cramjam

from tests.chaos.checker import WINDOW_KEY, Verdict
from tests.chaos.servers import Message, Servers

ZSTANDARD = b"\x28\xb5\x2f\xfd"
"""What a packed page begins with."""
REPLAYED_TABLES = {
    "requests": "topic_id, partition, offset",
    "windows": f"window_start, window_end, {WINDOW_KEY}",
    "window_scores": f"window_start, window_end, {WINDOW_KEY}, metric",
    "latency_causes": f"window_start, window_end, {WINDOW_KEY}",
    "anomalies": "anomaly_id",
    "alerts": "incident_id",
}
OF_METRICS = ("window_scores", "anomalies", "alerts")
"""Those of the tables whose rows are of a metric."""
REPLAYED_EVENTS = ("anomaly.events", "alerts")
OF_THE_BOOKS = ("stalled_seconds", "oldest_owed_seconds", "commit_lag_seconds")
"""Metrics that the ledger and the watchdog judge, by what they saw and when: the telemetry does not hold that."""
LEDGER_PAGE = "ledger."
"""Pages of what the ledger told of the workers."""
STATES = ("jobs.score.requests.state", "jobs.score.windows.state")


def check_replay(servers: Servers, verdict: Verdict, database: str, prefix: str) -> None:
    """Rows, events and final state are those of a clean replay: in `database`, in topics named with `prefix`."""
    for table, order in REPLAYED_TABLES.items():
        which = f"WHERE metric NOT IN {OF_THE_BOOKS}" if table in OF_METRICS else ""
        ours, clean = (
            servers.text(f"SELECT * FROM {table} {which} ORDER BY {order} FORMAT TSVWithNames", where).splitlines()
            for where in ("default", database)
        )
        verdict.found("state_mismatch", [f"{table}: {one}" for one in _differences(ours, clean)])
        verdict.figures[f"replayed_{table}"] = len(clean) - 1
    for topic in REPLAYED_EVENTS:
        ours, clean = (visible_events(servers.read(name)) for name in (topic, prefix + topic))
        differing = [key for key in ours.keys() | clean.keys() if ours.get(key) != clean.get(key)]
        verdict.found("state_mismatch", [f"{topic}: {one}" for one in differing])
    for topic in STATES:
        ours, clean = (final_state(servers.read(name)) for name in (topic, prefix + topic))
        differing = [key for key in ours.keys() | clean.keys() if ours.get(key) != clean.get(key)]
        verdict.found("state_mismatch", [f"{topic}: {one}" for one in differing])
        verdict.figures[f"replayed_pages_of_{topic}"] = len(clean)


def _differences(ours: list[str], clean: list[str]) -> list[str]:
    only_ours, only_clean = Counter(ours), Counter(clean)
    only_ours, only_clean = only_ours - only_clean, only_clean - only_ours
    return [f"only in the run: {one}" for one in only_ours] + [f"only in the replay: {one}" for one in only_clean]


def visible_events(messages: list[Message]) -> dict[bytes, bytes | None]:
    """Events by id, without those of the books; one that was sent again must be the same."""
    found: dict[bytes, bytes | None] = {}
    for one in messages:
        if json.loads(one.value or b"{}").get("metric") in OF_THE_BOOKS:
            continue
        name = one.headers["ce_id"]
        if found.setdefault(name, one.value) != one.value:
            found[name + b", told differently"] = one.value
    return found


def final_state(messages: list[Message]) -> dict[tuple[int, str], object]:
    """The content of the last whole snapshot of each partition, by partition and page."""
    last: dict[int, dict[bytes, bytes | None]] = defaultdict(dict)
    for one in messages:
        last[one.partition][one.key or b""] = one.value
    found: dict[tuple[int, str], object] = {}
    for partition, records in last.items():
        manifests = sorted(key for key, value in records.items() if key.endswith(b"|manifest") and value is not None)
        if not manifests:
            continue
        owner = manifests[-1].removesuffix(b"|manifest")  # the highest epoch: keys begin with it
        manifest = json.loads(_body(records[manifests[-1]]))
        for name, (slot, _) in manifest["pages"].items():
            if name.startswith(LEDGER_PAGE):
                continue
            page = records.get(b"%b|page|%b|%d" % (owner, name.encode(), slot))
            found[partition, name] = None if page is None else _of_the_log(name, _body(page))
    return found


def _body(record: bytes | None) -> bytes:
    magic, crc = struct.unpack_from(">4sI", record or b"")
    body = (record or b"")[8:]
    if magic != b"IWS1" or zlib.crc32(body) != crc:
        raise ValueError("a state record is broken")
    return body


def _of_the_log(name: str, body: bytes) -> object:
    """A page without what is not the telemetry log's: when partials came, on the clock of their own topic."""
    if body.startswith(ZSTANDARD):
        body = bytes(cramjam.zstd.decompress(body))
    if not name.startswith("progress."):
        return body
    rows = json.loads(body)["entries"]
    return [row[:-1] if row[0] == "open" else row for row in rows if row[0] != "clock"]

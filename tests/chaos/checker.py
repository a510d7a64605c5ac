"""Whether a run kept its promises, told from the outside: from the topics, the tables and what the sender was told.

In the manner of Jepsen's check of a total queue: what was acknowledged must come out once, and nothing else may. It is
written apart from the product and imports nothing of it, so that one mistake is not made twice.
"""

import json
import struct
import urllib.parse
import urllib.request
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import cramjam
from confluent_kafka import Consumer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

READ_SECONDS = 30.0
OUTCOMES = ("answered", "failed", "shed", "dead_lettered")
NAMED_MAX = 5
ZSTANDARD = b"\x28\xb5\x2f\xfd"
"""What a packed page begins with."""
Identity = tuple[str, int, int]
"""(topic id, partition, offset) of the request's record."""


@dataclass(frozen=True)
class Sent:
    """A request that Kafka acknowledged: where it lies, and the name that no other has."""

    topic_id: str
    partition: int
    offset: int
    name: str

    @property
    def identity(self) -> Identity:
        return self.topic_id, self.partition, self.offset


@dataclass(frozen=True)
class Message:
    partition: int
    offset: int
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


@dataclass
class Verdict:
    """Counts that must be 0, with a few of the cases by name; and figures."""

    lost: int = 0
    visible_duplicates: int = 0
    unknown: int = 0
    disagreements: int = 0
    """The row says another outcome, or another request, than the first answer does."""
    window_mismatch: int = 0
    state_mismatch: int = 0
    named: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    figures: dict[str, int] = field(default_factory=dict)

    FAULTS = ("lost", "visible_duplicates", "unknown", "disagreements", "window_mismatch", "state_mismatch")

    @property
    def is_clean(self) -> bool:
        return not any(getattr(self, name) for name in self.FAULTS)

    def found(self, what: str, cases: list[str]) -> None:
        setattr(self, what, getattr(self, what) + len(cases))
        self.named[what] += cases[: max(0, NAMED_MAX - len(self.named[what]))]

    def as_dict(self) -> dict:
        return {**{name: getattr(self, name) for name in self.FAULTS}, **self.figures, "named": dict(self.named)}


class Servers:
    """The checker's own way to Kafka and ClickHouse."""

    def __init__(self, bootstrap: str, clickhouse: str) -> None:
        self.bootstrap, self.clickhouse = bootstrap, clickhouse

    def topic_id(self, topic: str) -> str:
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        future = admin.describe_topics(TopicCollection([topic]), request_timeout=20)[topic]
        # As Kafka writes ids; librdkafka writes them with another alphabet.
        return str(future.result(20).topic_id).translate(str.maketrans("+/", "-_")).rstrip("=")

    def read(self, topic: str) -> list[Message]:
        """Everything the topic holds, partition after partition in order. Raises TimeoutError."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "chaos-checker",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "check.crcs": True,
            }
        )
        try:
            known = consumer.list_topics(topic, timeout=20).topics[topic].partitions
            wanted, found = {}, []
            for number in known:
                first, after = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=20)
                if after > first:
                    wanted[number] = (first, after)
            consumer.assign([TopicPartition(topic, number, first) for number, (first, _) in wanted.items()])
            left = set(wanted)
            while left:
                message = consumer.poll(READ_SECONDS)
                if message is None:
                    raise TimeoutError(f"{topic}: nothing came in {READ_SECONDS:.0f} s; left {sorted(left)}")
                number = message.partition()
                if message.error():
                    if message.error().name() == "_PARTITION_EOF":
                        left.discard(number)
                    continue
                if message.offset() < wanted[number][1]:
                    headers = {name: value or b"" for name, value in message.headers() or ()}
                    found.append(
                        Message(
                            number, message.offset(), message.timestamp()[1], message.key(), message.value(), headers
                        )
                    )
            return sorted(found, key=lambda one: (one.partition, one.offset))
        finally:
            consumer.close()

    def first_offsets(self, topic: str) -> dict[int, int]:
        """The first offset that is still there, of each partition."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "chaos-checker"})
        try:
            known = consumer.list_topics(topic, timeout=20).topics[topic].partitions
            return {one: consumer.get_watermark_offsets(TopicPartition(topic, one), timeout=20)[0] for one in known}
        finally:
            consumer.close()

    def rows(self, sql: str, database: str = "default") -> list[dict]:
        text = self.text(f"{sql} FORMAT JSONEachRow", database)
        return [json.loads(line) for line in text.splitlines()]

    def text(self, sql: str, database: str = "default") -> str:
        url = f"{self.clickhouse}/?{urllib.parse.urlencode({'database': database})}"
        with urllib.request.urlopen(urllib.request.Request(url, sql.encode()), timeout=60) as answer:
            return answer.read().decode()


@dataclass
class Log:
    """What the topics say of requests."""

    requests: dict[Identity, str]
    """Name by identity, of all that the request topic holds."""
    final: dict[Identity, tuple[str, str]]
    """(outcome, name) of the first answer, or of the dead letter."""
    raw_answers: int = 0
    raw_letters: int = 0
    twice_final: list[Identity] = field(default_factory=list)
    """Both answered and dead-lettered."""
    gone: set[Identity] = field(default_factory=set)
    """Acknowledged, and since then taken by retention, or with the topic when that was deleted."""


def read_log(servers: Servers, sent: list[Sent], taken: dict[tuple[str, int], int]) -> Log:
    topic_id = servers.topic_id("inference.requests")
    requests = {}
    for one in servers.read("inference.requests"):
        requests[topic_id, one.partition, one.offset] = name_of(one)
    # Of what is gone since, the sender's word is all there is.
    first = servers.first_offsets("inference.requests")
    first = {number: max(offset, taken.get((topic_id, number), 0)) for number, offset in first.items()}
    gone = {one.identity: one.name for one in sent if one.topic_id != topic_id or one.offset < first[one.partition]}
    requests |= gone
    log = Log(requests, {}, gone=set(gone))
    for one in servers.read("inference.predictions"):
        body = json.loads(one.value)
        asked = body["request"]
        identity = (asked["topic_id"], asked["partition"], asked["offset"])
        outcome = one.headers["ce_type"].decode().split(".inference.")[-1].split(".")[0]
        log.raw_answers += 1
        log.final.setdefault(identity, (outcome, body["request_id"]))
    by_name = {name: identity for identity, name in requests.items()}
    buried = set()
    for one in servers.read("inference.requests.dead-letters"):
        origin = {key.rpartition(".")[2]: value.decode() for key, value in one.headers.items() if "errors." in key}
        place = (int(origin["partition"]), int(origin["offset"]))
        identity = by_name.get(name_of(one), (topic_id, *place))
        log.raw_letters += 1
        if identity in log.final and identity not in buried:
            log.twice_final.append(identity)
        if identity[1:] != place:
            identity = ("dead letter of another record", *place)
        buried.add(identity)
        log.final.setdefault(identity, ("dead_lettered", name_of(one)))
    return log


def name_of(one: Message) -> str:
    """A request's unique name: its ce_id, else what stands behind the last `#` of its text."""
    if "ce_id" in one.headers:
        return one.headers["ce_id"].decode(errors="replace")
    return (one.value or b"").rpartition(b"#")[2].rstrip(b'"}]').decode(errors="replace")


def check_requests(
    servers: Servers, sent: list[Sent], verdict: Verdict, taken: dict[tuple[str, int], int] | None = None
) -> None:
    """Every acknowledged request has one visible final answer and one row, and nothing else has.

    `taken`: by topic id and partition, the offset below which records were deleted. A broker that is killed within a
    minute may hold them again: where its log begins is written down once a minute.
    """
    log = read_log(servers, sent, taken or {})
    rows = servers.rows(
        "SELECT topic_id, partition, offset, request_id, outcome FROM requests ORDER BY topic_id, partition, offset"
    )
    shown = [(row["topic_id"], int(row["partition"]), int(row["offset"])) for row in rows]
    counted = Counter(shown)
    by_identity = dict(zip(shown, rows, strict=True))
    expired = {one for one in log.gone if one not in log.final and one not in counted}
    owed = [one for one in sent if one.identity not in expired]
    verdict.found("lost", [f"no answer: {one}" for one in owed if one.identity not in log.final])
    verdict.found("lost", [f"no row: {one}" for one in owed if one.identity not in counted])
    verdict.found("lost", [f"acknowledged, not in the log: {one}" for one in sent if one.identity not in log.requests])
    # What was not acknowledged may be in the log all the same; then it, too, is owed an answer.
    unsure = log.requests.keys() - {one.identity for one in sent}
    verdict.found("lost", [f"no answer: {one}" for one in unsure if one not in log.final])
    verdict.found("lost", [f"no row: {one}" for one in unsure if one not in counted])
    verdict.found("visible_duplicates", [f"{count} rows of {one}" for one, count in counted.items() if count > 1])
    verdict.found("visible_duplicates", [f"answer and dead letter of {one}" for one in log.twice_final])
    verdict.found("unknown", [f"answer of {one}" for one in log.final if one not in log.requests])
    verdict.found("unknown", [f"row of {one}" for one in counted if one not in log.requests])
    verdict.found(
        "unknown",
        [
            f"{one}: the log says {log.requests[one.identity]}"
            for one in sent
            if log.requests.get(one.identity, one.name) != one.name
        ],
    )
    verdict.found("disagreements", list(_disagreements(log, by_identity)))
    stored = servers.rows("SELECT count() AS n, uniqExact(topic_id, partition, offset) AS u FROM requests_stored")[0]
    verdict.figures |= {
        "acknowledged": len(sent),
        "in_the_log": len(log.requests),
        "expired": len(expired),
        "raw_duplicate_answers": log.raw_answers + log.raw_letters - len(log.final) - len(log.twice_final),
        "raw_duplicate_rows": int(stored["n"]) - int(stored["u"]),
        **{f"finally_{name}": sum(1 for outcome, _ in log.final.values() if outcome == name) for name in OUTCOMES},
    }


def _disagreements(log: Log, rows: dict[Identity, dict]):
    for identity, (outcome, name) in log.final.items():
        row = rows.get(identity)
        if row is not None and row["outcome"] != outcome:
            yield f"{identity}: the first answer says {outcome}, the row {row['outcome']}"
        wanted = log.requests.get(identity)
        if wanted is not None and outcome != "dead_lettered" and name != wanted:
            yield f"{identity}: is {wanted}, and {name} was answered"
        if wanted is not None and row is not None and row["outcome"] != "dead_lettered" and row["request_id"] != wanted:
            yield f"{identity}: is {wanted}, and the row's is {row['request_id']}"


WINDOW_KEY = "scenario, model, model_version"


def window_sums(servers: Servers, database: str = "default") -> tuple[dict, dict]:
    """Counts by window and series and outcome, as the windows say and as the rows do."""
    sums = ", ".join(f"sum({name}) AS {name}_n" for name in OUTCOMES)
    counts = ", ".join(f"countIf(outcome = '{name}') AS {name}_n" for name in OUTCOMES)
    windows = servers.rows(
        f"SELECT toUnixTimestamp64Milli(window_start) AS start, {WINDOW_KEY}, {sums} FROM windows "
        f"GROUP BY start, {WINDOW_KEY}",
        database,
    )
    rows = servers.rows(
        f"SELECT intDiv(toUnixTimestamp64Milli(served_at), 1000) * 1000 AS start, {WINDOW_KEY}, {counts} FROM requests "
        f"GROUP BY start, {WINDOW_KEY}",
        database,
    )
    return _by_window(windows), _by_window(rows)


def _by_window(rows: list[dict]) -> dict:
    """Without the empty: a window may hold nothing but outcomes that were told again."""
    keys = ("start", "scenario", "model", "model_version")
    found = {tuple(row[key] for key in keys): tuple(int(row[f"{name}_n"]) for name in OUTCOMES) for row in rows}
    return {key: counts for key, counts in found.items() if any(counts)}


def check_windows(servers: Servers, verdict: Verdict) -> None:
    """Each window of a series counts the rows that were served in it, by outcome. Windows are of one second."""
    windows, rows = window_sums(servers)
    differing = [key for key in windows.keys() | rows.keys() if windows.get(key) != rows.get(key)]
    verdict.found(
        "window_mismatch",
        [f"{key}: windows {windows.get(key)}, rows {rows.get(key)}" for key in sorted(differing)],
    )
    verdict.figures["windows"] = len(windows)


# The clean replay.

REPLAYED_TABLES = {
    "requests": "topic_id, partition, offset",
    "windows": f"window_start, window_end, {WINDOW_KEY}",
    "window_scores": f"window_start, window_end, {WINDOW_KEY}, metric",
    "latency_causes": f"window_start, window_end, {WINDOW_KEY}",
    "anomalies": "anomaly_id",
    "alerts": "incident_id",
}
REPLAYED_EVENTS = ("anomaly.events", "alerts")
STATES = ("jobs.score.requests.state", "jobs.score.windows.state")


def check_replay(servers: Servers, verdict: Verdict, database: str, prefix: str) -> None:
    """Rows, events and final state are those of a clean replay: in `database`, in topics named with `prefix`."""
    for table, order in REPLAYED_TABLES.items():
        ours, clean = (
            servers.text(f"SELECT * FROM {table} ORDER BY {order} FORMAT TSVWithNames", where).splitlines()
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
    """Events by id; one that was sent again must be the same."""
    found: dict[bytes, bytes | None] = {}
    for one in messages:
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

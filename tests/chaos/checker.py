"""Whether a run kept its promises, told from the outside: from the topics, the tables and what the sender was told.

In the manner of Jepsen's check of a total queue: what was acknowledged must come out once, and nothing else may. It is
written apart from the product and imports nothing of it, so that one mistake is not made twice.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.chaos.servers import POISON, Message, Servers

OUTCOMES = ("answered", "failed", "shed", "dead_lettered")
NAMED_MAX = 5
ALL = 2**63 - 1
"""Above every offset."""
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


@dataclass
class Deleted:
    """What the run itself deleted of request topics, and how far the workers had committed then.

    What they had committed was answered, or is lost: that its record is gone since does not make it expired.
    """

    ranges: dict[tuple[str, int], list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    """By topic id and partition: what was committed, and below which offset records were deleted."""

    def note(self, topic_id: str, partition: int, committed: int, below: int = ALL) -> None:
        self.ranges[topic_id, partition].append((committed, below))

    def may_expire(self, one: Identity) -> bool:
        """Whether it was deleted before the workers had committed it."""
        return any(committed <= one[2] < below for committed, below in self.ranges.get(one[:2], ()))

    def below(self, topic_id: str, partition: int) -> int:
        """The offset below which records were deleted. A broker that is killed within a minute may hold them again:
        where its log begins is written down once a minute."""
        return max((below for _, below in self.ranges.get((topic_id, partition), ())), default=0)


@dataclass(frozen=True)
class Committed:
    """How far workers and jobs had committed when they were stopped, by partition. What is below is dealt with for
    good: if it has no answer, or no row, none will come."""

    requests: dict[int, int]
    telemetry: dict[int, int]


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
    books_differ: int = 0
    """The ledger's account, or that of `inferwatch books`, is another than what was counted here."""
    unfinished: int = 0
    """Jobs that did not come to the end of their topics."""
    unasked_ends: int = 0
    """Processes that ended by themselves, and not to be started again."""
    never_recovered: int = 0
    """Kills after which a partition was asked something and did nothing any more."""
    audit_agrees: bool | None = None
    """What `inferwatch audit counts` says; None: it was not asked."""
    named: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    figures: dict[str, int] = field(default_factory=dict)

    FAULTS = (
        *("lost", "visible_duplicates", "unknown", "disagreements", "window_mismatch", "state_mismatch"),
        *("books_differ", "unfinished", "unasked_ends", "never_recovered"),
    )

    @property
    def is_clean(self) -> bool:
        return not any(getattr(self, name) for name in self.FAULTS) and self.audit_agrees is not False

    def found(self, what: str, cases: list[str]) -> None:
        setattr(self, what, getattr(self, what) + len(cases))
        self.named[what] += cases[: max(0, NAMED_MAX - len(self.named[what]))]

    def counts(self) -> dict[str, int]:
        """What must be 0, by name."""
        return {name: getattr(self, name) for name in self.FAULTS}

    def as_dict(self) -> dict:
        return {**self.counts(), "audit_agrees": self.audit_agrees, **self.figures, "named": dict(self.named)}


@dataclass
class Log:
    """What the topics say of requests."""

    topic_id: str
    """Of the request topic that there is now."""
    first: dict[int, int]
    """By partition, the first offset of it that is still there."""
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


def read_log(servers: Servers, sent: list[Sent], deleted: Deleted) -> Log:
    topic_id = servers.topic_id("inference.requests")
    requests = {}
    for one in servers.read("inference.requests"):
        requests[topic_id, one.partition, one.offset] = name_of(one)
    # Of what is gone since, the sender's word is all there is.
    first = servers.first_offsets("inference.requests")
    first = {number: max(offset, deleted.below(topic_id, number)) for number, offset in first.items()}
    gone = {one.identity: one.name for one in sent if one.topic_id != topic_id or one.offset < first[one.partition]}
    requests |= gone
    log = Log(topic_id, first, requests, {}, gone=set(gone))
    for one in servers.read("inference.predictions"):
        if POISON in one.headers:
            continue
        body = json.loads(one.value)
        asked = body["request"]
        identity = (asked["topic_id"], asked["partition"], asked["offset"])
        outcome = one.headers["ce_type"].decode().split(".inference.")[-1].split(".")[0]
        log.raw_answers += 1
        log.final.setdefault(identity, (outcome, body["request_id"]))
    by_name = {name: identity for identity, name in requests.items()}
    buried = set()
    for one in servers.read("inference.requests.dead-letters"):
        if POISON in one.headers:
            continue
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


def told_at(servers: Servers) -> dict[Identity, int]:
    """The offset of the first telemetry record that tells of a request."""
    found: dict[Identity, int] = {}
    for one in servers.read("inference.telemetry"):
        body = json.loads(one.value or b"{}")
        for offset in body.get("requests", {}).get("offset", ()):
            found.setdefault((body["topic_id"], body["partition"], offset), one.offset)
    return found


@dataclass(frozen=True)
class Due:
    """Of which requests an answer, and a row, must be there: of all, or of those that were dealt with for good."""

    committed: Committed | None
    told: dict[Identity, int]

    def answer(self, one: Identity) -> bool:
        return self.committed is None or one[2] < self.committed.requests.get(one[1], 0)

    def row(self, one: Identity) -> bool:
        """Answers are delivered, and told of, before they are committed."""
        if self.committed is None or one not in self.told:
            return self.answer(one)
        return self.told[one] < self.committed.telemetry.get(one[1], 0)


def check_requests(
    servers: Servers,
    sent: list[Sent],
    verdict: Verdict,
    deleted: Deleted | None = None,
    committed: Committed | None = None,
) -> Log:
    """Every acknowledged request has one visible final answer and one row, and nothing else has.

    With `committed`, only what was dealt with for good can be lost: the others may come yet.
    """
    deleted = deleted or Deleted()
    log = read_log(servers, sent, deleted)
    due = Due(committed, {} if committed is None else told_at(servers))
    rows = servers.rows(
        "SELECT topic_id, partition, offset, request_id, outcome FROM requests ORDER BY topic_id, partition, offset"
    )
    shown = [(row["topic_id"], int(row["partition"]), int(row["offset"])) for row in rows]
    counted = Counter(shown)
    by_identity = dict(zip(shown, rows, strict=True))
    without = {one for one in log.gone if one not in log.final and one not in counted}
    expired = {one for one in without if deleted.may_expire(one)}
    verdict.found("lost", list(_lost(log, counted, sent, expired, due)))
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
        "rows_of_the_topic": sum(one[0] == log.topic_id for one in counted),
        "raw_duplicate_answers": log.raw_answers + log.raw_letters - len(log.final) - len(log.twice_final),
        "raw_duplicate_rows": int(stored["n"]) - int(stored["u"]),
        **{f"finally_{name}": sum(1 for outcome, _ in log.final.values() if outcome == name) for name in OUTCOMES},
    }
    return log


def _lost(log: Log, counted: Counter[Identity], sent: list[Sent], expired: set[Identity], due: Due) -> Iterator[str]:
    acknowledged = {one.identity: one for one in sent}
    # What was not acknowledged may be in the log all the same; then it, too, is owed an answer.
    for identity in [*acknowledged, *(log.requests.keys() - acknowledged.keys())]:
        named = acknowledged.get(identity, identity)
        if identity in expired:
            continue
        if identity not in log.final and due.answer(identity):
            yield f"no answer: {named}"
        if identity not in counted and due.row(identity):
            yield f"no row: {named}"
        if identity not in log.requests:
            yield f"acknowledged, not in the log: {named}"


def _disagreements(log: Log, rows: dict[Identity, dict]) -> Iterator[str]:
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

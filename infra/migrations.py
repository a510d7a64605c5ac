"""Brings the tables to what the numbered migrations say: idempotent, shown before, never losing data unasked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.clickhouse import ClickHouse
from infra.ports import Clock

FOLDER = Path(__file__).parent / "clickhouse"
LEDGER = "schema_migrations"
_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|`[^`]*`")
_LOSING = re.compile(
    r"\b(DROP\s+(TABLE|DATABASE|COLUMN|PARTITION|PART)|TRUNCATE|DELETE\s+FROM|RENAME\s+TABLE|EXCHANGE\s+TABLES|DETACH"
    r"|REPLACE\s+(TABLE|PARTITION)|ALTER\s+TABLE\b.*\b(DELETE|UPDATE|CLEAR|MODIFY\s+TTL))\b",
    re.IGNORECASE | re.DOTALL,
)
_MODIFY_COLUMN = re.compile(r"\b(?:MODIFY|ALTER)\s+COLUMN\s+(?:IF\s+EXISTS\s+)?\S+\s+(\w+)", re.IGNORECASE)
_KEEPS_VALUES = frozenset({"COMMENT", "CODEC", "DEFAULT", "REMOVE", "MODIFY", "RESET", "FIRST", "AFTER"})
"""What a column may be given without touching its values. Another type may not hold them, a TTL deletes them."""


class MigrationRefused(Exception):
    """The tables cannot be brought there safely; the text says why and the ways out."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file: its statements, in order, and the SHA-256 of its text."""

    version: int
    name: str
    statements: tuple[str, ...]
    checksum: str

    @property
    def losing(self) -> tuple[str, ...]:
        """Statements that would remove data, or could."""
        return tuple(one for one in self.statements if _loses(one))


def read_migrations(folder: Path = FOLDER) -> list[Migration]:
    """All migrations, by number. Raises MigrationRefused when numbers are missing, doubled, or a name is wrong."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise MigrationRefused(f"{path.name}: a migration is named NNNN_verb_noun.sql")
        text = path.read_text()
        statements = tuple(part.strip() for part in _COMMENT.sub("", text).split(";\n") if part.strip(" \n;"))
        found.append(Migration(int(match[1]), match[2], statements, hashlib.sha256(text.encode()).hexdigest()))
    if [one.version for one in found] != list(range(1, len(found) + 1)):
        raise MigrationRefused(f"migrations are not numbered 1 to {len(found)} without gaps")
    return found


def pending(migrations: Sequence[Migration], applied: dict[int, str]) -> list[Migration]:
    """What is left to do. Raises MigrationRefused when an applied file was edited or is not known here."""
    by_version = {one.version: one for one in migrations}
    for version, checksum in sorted(applied.items()):
        known = by_version.get(version)
        if known is None:
            raise MigrationRefused(
                f"the tables are at migration {version:04d}, which this program does not know. "
                "Ways out: use a program at least as new as the tables."
            )
        if known.checksum != checksum:
            raise MigrationRefused(
                f"migration {version:04d}_{known.name}.sql was edited after it was applied. "
                "Ways out: restore the file, and put the change into a new migration."
            )
    return [one for one in migrations if one.version not in applied]


class Migrator:
    """Applies migrations over one client, recording each in `schema_migrations`."""

    def __init__(self, client: ClickHouse, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def applied(self) -> dict[int, str]:
        """Checksums by version, as recorded; nothing when the tables were never made."""
        _, exists = self._client.query(f"EXISTS TABLE {LEDGER}")
        if not exists[0][0]:
            return {}
        _, rows = self._client.query(f"SELECT version, argMax(checksum, applied_at) FROM {LEDGER} GROUP BY version")
        return {int(version): str(checksum) for version, checksum in rows}

    def apply(
        self,
        migrations: Sequence[Migration],
        *,
        say: Callable[[str], None],
        dry_run: bool = False,
        allow_data_loss: bool = False,
    ) -> int:
        """Apply what is pending, in order, and return how many were (or would be). Raises MigrationRefused."""
        todo = pending(migrations, self.applied())
        for one in todo:
            if one.losing and not allow_data_loss and not dry_run:
                raise MigrationRefused(
                    f"{one.version:04d}_{one.name}: would lose data ({_line(one.losing[0])}). "
                    "Ways out: back the table up and pass --allow-data-loss."
                )
        if not dry_run and todo:
            self._client.command(
                f"CREATE TABLE IF NOT EXISTS {LEDGER} (version UInt32, name String, checksum String,"
                " applied_at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY version"
            )
        for one in todo:
            warning = f"  (would lose data: {_line(one.losing[0])})" if one.losing else ""
            say(f"{'would apply' if dry_run else 'apply'} {one.version:04d}_{one.name}{warning}")
            for statement in one.statements:
                say(f"  {_line(statement)}")
                if not dry_run:
                    self._client.command(_repeatable(statement))
            if not dry_run:
                self._record(one)
        return len(todo)

    def _record(self, one: Migration) -> None:
        self._client.command(
            f"INSERT INTO {LEDGER} VALUES ({one.version}, '{one.name}', '{one.checksum}',"
            f" fromUnixTimestamp64Milli({self._clock.now_ms()}, 'UTC'))"
        )


def _loses(statement: str) -> bool:
    plain = _QUOTED.sub("x", statement)
    given = (match[1].upper() for match in _MODIFY_COLUMN.finditer(plain))
    return bool(_LOSING.search(plain)) or not _KEEPS_VALUES.issuperset(given)


def _repeatable(statement: str) -> str:
    # A migration that died half way is applied again from its first statement.
    return re.sub(r"^CREATE (TABLE|VIEW) (?!IF NOT EXISTS)", r"CREATE \1 IF NOT EXISTS ", statement)


def _line(statement: str) -> str:
    return " ".join(statement.split())[:100]

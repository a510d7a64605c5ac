"""Keeps the engine in its own folder: what it is given before it starts, and the proof afterwards that it took it.

The engine's own access control does the work, so that no way of writing a statement gets around it: its user may use
tables and nothing else, and may not set what names a file. What it does not control is in clickhouse_reach.py.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path

from infra.embedded.clickhouse_room import RESERVE_BYTES

# Each names a file to read or write, or makes code of what this front takes for text or another language.
_FIXED_SETTINGS = (
    "allow_experimental_eval_table_function",
    "dialect",
    "format_avro_schema_registry_url",
    "format_schema",
    "format_template_resultset",
    "format_template_row",
    "input_format_record_errors_file_path",
    "output_format_schema",
    "merge_tree_disk",
    "merge_tree_storage_policy",
)
# No dictionaries (a source can be a program), functions, sources (file, url, s3, remote, ...), backups, and of SYSTEM
# only what stops merges: the front does when the disk is full.
_GRANTS = (
    "GRANT SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE TEMPORARY TABLE, DROP, TRUNCATE, "
    "OPTIMIZE, UNDROP TABLE, SHOW, CHECK, KILL QUERY, SYSTEM MERGES ON *.*",
    # Every connection begins in it.
    "REVOKE DROP DATABASE ON default.*",
)
# default_database is emptied because chDB would lay a database of all files of the machine under `default`.
_CONFIG = """<clickhouse>
  <default_database></default_database>
  <database>default</database>
  <storage_configuration><disks><default>
    <keep_free_space_bytes>{kept}</keep_free_space_bytes>
  </default></disks></storage_configuration>
  <profiles><default>
    <allow_python_table_function>0</allow_python_table_function>
    <constraints>{constraints}</constraints>
  </default></profiles>
  <quotas><default/></quotas>
  <users><default>
    <password></password>
    <networks><ip>::/0</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
    <grants>{grants}</grants>
  </default></users>
</clickhouse>
"""
# The function file() of SELECT reads any file and asks no privilege. A function of SQL goes before it, wherever it is
# called: in a statement, a column's default, the expressions among VALUES.
_NO_FILE = "CREATE FUNCTION file AS (x) -> throwIf(1, 'the function file is not allowed: it reads any file')\n"
_PROOF = """
SELECT (SELECT engine FROM system.databases WHERE name = 'default') = 'Atomic'
    AND (SELECT count() FROM system.functions WHERE name = 'file' AND origin = 'SQLUserDefined') = 1
    AND (SELECT countIf(readonly) FROM system.settings WHERE name IN ({fixed})) = {count}
"""


class NotConfined(Exception):
    """The engine did not take its configuration: it could reach files of its user and must not serve."""


def prepare(folder: Path) -> str:
    """Writes the engine's configuration into its `folder`, and returns the connection options that name it."""
    constraints = "".join(f"<{name}><const/></{name}>" for name in _FIXED_SETTINGS)
    grants = "".join(f"<query>{grant}</query>" for grant in _GRANTS)
    config = folder / "confinement.xml"
    _write(config, _CONFIG.format(constraints=constraints, grants=grants, kept=RESERVE_BYTES))
    _write(folder / "user_defined" / "function_file.sql", _NO_FILE)
    default = folder / "metadata" / "default.sql"
    if not default.exists():
        _write(default, f"ATTACH DATABASE _ UUID '{_default_uuid(default.with_suffix(''))}'\nENGINE = Atomic\n")
    return f"config-file={config}&users_config={config}"


def prove(ask: Callable[[str], str]) -> None:
    """Checks a started engine; `ask` runs a statement and returns its answer as TabSeparated. Raises NotConfined."""
    settings = [name for name in _FIXED_SETTINGS if not name.startswith("merge_tree_")]
    fixed = ", ".join(f"'{name}'" for name in settings)
    refused = ("READ ON FILE", "WRITE ON FILE", "READ ON URL", "CREATE DICTIONARY ON *.*", "CREATE FUNCTION ON *.*")
    if ask(_PROOF.format(fixed=fixed, count=len(settings))).strip() != "1":
        raise NotConfined("the ClickHouse engine did not take its configuration")
    for grant in refused:
        if ask(f"CHECK GRANT {grant}").strip() != "0":
            raise NotConfined(f"the ClickHouse engine grants {grant}")


def _default_uuid(link: Path) -> uuid.UUID:
    """That of the database an earlier version made, whose only trace is a link into the store, or a new one."""
    return uuid.UUID(Path(os.readlink(link)).name) if link.is_symlink() else uuid.uuid4()


def _write(path: Path, text: str) -> None:
    """Whole or not at all: the process may be killed here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)

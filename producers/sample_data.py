"""The data that the simulator replays: samples that ship with it, or the full files where they are present."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.resources import files
from pathlib import Path

from pydantic import Field

from infra.settings import Settings, SettingsError, load


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of the trace: milliseconds after the first, and its size in the trace's own tokens."""

    offset_ms: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Replay:
    """What is replayed: texts in the data's order, arrivals in time order."""

    queries: tuple[str, ...]
    arrivals: tuple[Arrival, ...]


class DataChoice(StrEnum):
    """Which data are replayed. AUTO: the full ones where they are there, else the samples."""

    SAMPLE = "sample"
    FULL = "full"
    AUTO = "auto"


class DataSettings(Settings):
    """Where the full data lies."""

    data: Path = Field(
        default=Path("../shared/data"), description="Folder of the full data sets, for --data full, and for `up`."
    )

    @property
    def queries(self) -> Path:
        """The file of queries."""
        return self.data / "queries" / "queries.parquet"

    @property
    def trace(self) -> Path:
        """The file of arrivals."""
        return self.data / "traces" / "azure_llm_conv.parquet"


def replay_of(choice: DataChoice) -> tuple[Replay, DataChoice]:
    """What is chosen, and which of the two it is. Raises SettingsError when the full data must be there and are not."""
    if choice is DataChoice.AUTO:
        settings = load(DataSettings)
        there = settings.queries.is_file() and settings.trace.is_file()
        choice = DataChoice.FULL if there else DataChoice.SAMPLE
    return full_replay() if choice is DataChoice.FULL else sample_replay(), choice


def sample_replay() -> Replay:
    """The samples in `producers/samples/`; their README says where they are from."""
    queries = tuple(row["query"] for row in _rows("wands_queries.csv"))
    arrivals = tuple(
        Arrival(int(row["offset_ms"]), int(row["input_tokens"]), int(row["output_tokens"]))
        for row in _rows("azure_llm_arrivals.csv")
    )
    return Replay(queries, arrivals)


def _rows(name: str) -> Iterator[dict[str, str]]:
    with files("producers").joinpath("samples", name).open(encoding="utf-8") as file:
        yield from csv.DictReader(file)


def full_replay() -> Replay:
    """All queries and the whole trace from the data folder. Raises SettingsError where it is absent."""
    settings = load(DataSettings)
    folder, queries, trace = settings.data, settings.queries, settings.trace
    missing = [str(path) for path in (queries, trace) if not path.is_file()]
    if missing:
        raise SettingsError(
            f"INFERWATCH_DATA={folder}: {' and '.join(missing)} not there. "
            "Ways out: name the folder of the full data, or use --data sample."
        )
    from pyarrow import parquet

    texts = parquet.read_table(queries, columns=["query"])["query"].to_pylist()
    table = parquet.read_table(trace)
    times = [_time(text) for text in table["TIMESTAMP"].to_pylist()]
    first = min(times)
    arrivals = [
        Arrival(round((time - first) / timedelta(milliseconds=1)), input_tokens, output_tokens)
        for time, input_tokens, output_tokens in zip(
            times, table["ContextTokens"].to_pylist(), table["GeneratedTokens"].to_pylist(), strict=True
        )
    ]
    arrivals.sort(key=lambda arrival: arrival.offset_ms)
    return Replay(tuple(text for text in texts if text and text.strip()), tuple(arrivals))


def _time(text: str) -> datetime:
    # Seven decimals; Python 3.11 reads six.
    return datetime.fromisoformat(text[:26]).replace(tzinfo=UTC)

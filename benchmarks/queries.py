"""Real shopping queries for requests: the full data where it is, else the sample that ships; chosen by a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from infra.settings import load
from producers.sample_data import DataSettings, sample_replay

LONG_SHARE = 0.01
SHORT_WORDS_MAX, LONG_WORDS_MAX = 16, 200
"""Of texts of random length: most are short as queries are, a few as long as the model reads."""


@dataclass(frozen=True, slots=True)
class Queries:
    """Texts, and where they are from."""

    texts: tuple[str, ...]
    source: str

    def choose(self, count: int, seed: int) -> list[str]:
        """So many of them, with repetition. The same seed gives the same texts."""
        return random.Random(seed).choices(self.texts, k=count)


def real_queries() -> Queries:
    """All queries of the data folder (INFERWATCH_DATA), or the sample where that is absent."""
    path = load(DataSettings).data / "queries" / "queries.parquet"
    if not path.is_file():
        sample = sample_replay().queries
        return Queries(sample, f"sample of {len(sample)} WANDS queries")
    from pyarrow import parquet

    texts = tuple(parquet.read_table(path, columns=["query"])["query"].to_pylist())
    return Queries(texts, f"{len(texts)} real shopping queries")


def texts_of_random_length(words: Sequence[str], count: int, seed: int) -> list[str]:
    """Texts of 1 to 16 words, log-uniform, one in a hundred of up to 200, from words of real queries."""
    chosen = random.Random(seed)
    texts = []
    for _ in range(count):
        if chosen.random() < LONG_SHARE:
            length = chosen.randint(SHORT_WORDS_MAX, LONG_WORDS_MAX)
        else:
            length = int(SHORT_WORDS_MAX ** chosen.random())
        texts.append(" ".join(chosen.choices(words, k=length)))
    return texts

"""The row models of a partition: one for each model and scenario up to a bound, one shared by the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors.half_space_trees import HalfSpaceTrees
from stream_jobs.features import NAMES

NAME = "half_space_trees"
SHARED = ("", "")
"""Key of the model that takes the rows of all keys above the bound."""
SEED = 20_260_101
"""Any number; the same on every machine, because replays must grow the same trees."""

RowKey = tuple[str, str]
"""(model, scenario)."""


class RowModels:
    """Scores rows and learns them, with one HalfSpaceTrees a key. Keys are never given up: a model is 40 KB."""

    def __init__(self, models_max: int, row_window: int) -> None:
        self.models_max, self.row_window = models_max, row_window
        self._models: dict[RowKey, HalfSpaceTrees] = {}
        self._order: list[RowKey] = []

    def __len__(self) -> int:
        return len(self._order)

    @property
    def digest(self) -> str:
        """Hash of what the models are made of, 16 hexadecimal characters."""
        return hashlib.sha256(repr((NAME, NAMES, self.row_window, SEED)).encode()).hexdigest()[:16]

    def score_then_learn(
        self, key: RowKey, rows: NDArray[np.float64]
    ) -> tuple[int, NDArray[np.float64], NDArray[np.bool_]]:
        """Scores of the rows in order, which were given while learning, and the number of the model that changed."""
        if key not in self._models:
            if len(self._order) >= self.models_max:
                key = SHARED
            if key not in self._models:
                self._add(key)
        scores, learning = self._models[key].score_then_learn_many(rows)
        return self._order.index(key), scores, learning

    def shares(self, key: RowKey) -> bool:
        """Whether the key's rows go to the shared model."""
        return key not in self._models

    def names(self) -> list[list[str]]:
        """The keys, in the order of their numbers."""
        return [list(key) for key in self._order]

    def state(self, number: int) -> bytes:
        """State of one model."""
        return self._models[self._order[number]].state()

    def restore(self, names: Sequence[Any], states: Sequence[bytes | None]) -> list[str]:
        """Take over all models. A state that is missing or broken costs its model alone: returns why, of each.

        Raises ValueError or TypeError when the names are broken; there are no models then.
        """
        keys = [(model, scenario) for model, scenario in names]
        texts = all(type(text) is str for key in keys for text in key)
        if not texts or len(set(keys)) != len(keys) or len(keys) != len(states):
            raise ValueError(f"{len(keys)} row models: not a model and a scenario each")
        broken = []
        for key, state in zip(keys, states, strict=True):
            self._add(key)
            try:
                self._models[key].restore(state or b"")
            except ValueError as error:
                broken.append(f"row model of {key[1]}/{key[0]}: {error}")
        return broken

    def _add(self, key: RowKey) -> None:
        self._models[key] = HalfSpaceTrees(NAMES, window_size=self.row_window, seed=SEED)
        self._order.append(key)

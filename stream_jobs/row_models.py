"""The row models of a partition: one for each model and scenario up to a bound, one shared by the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors.half_space_trees import HalfSpaceTrees
from stream_jobs.features import NAMES

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

    def restore(self, names: list[Any], states: list[bytes]) -> None:
        """Take over all models. Raises ValueError when something is broken."""
        self._models, self._order = {}, []
        for name, state in zip(names, states, strict=True):
            model, scenario = name
            if not isinstance(model, str) or not isinstance(scenario, str):
                raise ValueError(f"row model {name!r}: not a model and a scenario")
            self._add((model, scenario))
            self._models[model, scenario].restore(state)

    def _add(self, key: RowKey) -> None:
        self._models[key] = HalfSpaceTrees(NAMES, window_size=self.row_window, seed=SEED)
        self._order.append(key)

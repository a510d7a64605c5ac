"""NAB's published board beside what our scorer makes of the raw scores it was made from: proof, and rivals to beat."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.detection.data_sets import nab_series
from benchmarks.detection.nab_score import PROFILES, NabFile, nab_score

RAW_SCORES, BOARD = "nab_reference_scores.parquet", "nab_published.json"
FILES = (RAW_SCORES, BOARD)


def reference_files(folder: Path) -> dict[str, list[NabFile]]:
    """Published raw scores of every detector of the file, with the windows, in the order of the series."""
    from pyarrow import parquet

    table = parquet.read_table(folder / RAW_SCORES)
    series = list(nab_series(folder))
    edges = np.cumsum([0, *(len(one.time_ms) for one in series)])
    detectors = [name for name in table.column_names if name not in ("series", "i")]
    return {
        name: [
            NabFile(scores[begin : begin + len(one.time_ms)], one.windows)
            for one, begin in zip(series, edges[:-1], strict=True)
        ]
        for name in detectors
        for scores in [table[name].to_numpy()]
    }


def published_board(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """By detector and profile: the score our scorer gives at its best threshold, and the published one."""
    board = json.loads((folder / BOARD).read_text())
    return {
        name: {
            profile: {"ours": nab_score(files, weights).score, "published": board[name][profile]}
            for profile, weights in PROFILES.items()
        }
        for name, files in reference_files(folder).items()
    }

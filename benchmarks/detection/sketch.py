"""A series and its scores as a small picture: reduced to the shape of a few hundred columns, drawn as SVG. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.data_sets import Series
from stream_jobs.detectors.base import Floats

COLUMNS = 240
SCORE_CUT = 3.0
"""Scores are drawn in thresholds, cut here: what is that far above is far above."""
WIDTH, VALUE_HEIGHT, SCORE_HEIGHT, GAP = 720, 84, 36, 8
INK, FAINT, EVENT, ALARM = "#1f2933", "#9aa5b1", "#f8d7da", "#0b6e4f"


def sketch(series: Series, scores: Floats, threshold: float) -> dict[str, Any]:
    """The scored part in columns, without any unit: least and most value, highest score in thresholds, labelled spans.

    `scores` (n,) are of the whole series. All numbers are thousandths of the picture, in texts as they are many.
    """
    part = slice(series.scored_from, None)
    values, labels, score = series.values[part], series.labels[part], scores[part]
    n = len(values)
    columns = min(COLUMNS, n)
    level = _scaled(values)
    edges = np.linspace(0, n, columns + 1).astype(np.int64)
    spans = list(pairwise(edges))
    relative = np.nan_to_num(score / threshold if threshold > 0 and np.isfinite(threshold) else score * 0.0)
    marks = np.diff(np.concatenate([[0], labels.astype(np.int8), [0]]))
    firsts, ends = np.flatnonzero(marks == 1), np.flatnonzero(marks == -1)
    return {
        "low": _text(level[a:b].min() for a, b in spans),
        "high": _text(level[a:b].max() for a, b in spans),
        "score": _text(min(relative[a:b].max(), SCORE_CUT) / SCORE_CUT for a, b in spans),
        "events": [_text([first / n, end / n]) for first, end in zip(firsts, ends, strict=True)],
        "points": n,
    }


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the channels, each from 0 to 1."""
    values = np.where(np.isfinite(values), values, np.nanmin(np.where(np.isfinite(values), values, np.nan), axis=0))
    low, span = values.min(axis=0), np.ptp(values, axis=0)
    return np.asarray(((values - low) / np.where(span > 0, span, 1.0)).mean(axis=1))


def svg(shape: Mapping[str, Any], title: str) -> str:
    """The picture: values above, scores below with the threshold dashed, labelled anomalies shaded."""
    height = VALUE_HEIGHT + GAP + SCORE_HEIGHT
    shades = "".join(
        f'<rect x="{first * WIDTH:.1f}" y="0" width="{max((end - first) * WIDTH, 1.0):.1f}" height="{height}"/>'
        for first, end in map(_shares, shape["events"])
    )
    band = (
        _points([1 - v for v in _shares(shape["high"])], VALUE_HEIGHT, 0)
        + _points([1 - v for v in _shares(shape["low"])], VALUE_HEIGHT, 0)[::-1]
    )
    top = VALUE_HEIGHT + GAP
    line = _points([1 - v for v in _shares(shape["score"])], SCORE_HEIGHT, top)
    area = [(0.0, float(height)), *line, (float(WIDTH), float(height))]
    at = top + SCORE_HEIGHT * (1 - 1 / SCORE_CUT)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img"><title>{html.escape(title)}</title>',
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            f'<g fill="{EVENT}">{shades}</g>',
            f'<polygon points="{_joined(band)}" fill="{INK}" stroke="{INK}" stroke-width="0.8"/>',
            f'<polygon points="{_joined(area)}" fill="{ALARM}"/>',
            f'<line x1="0" y1="{at:.1f}" x2="{WIDTH}" y2="{at:.1f}" stroke="{FAINT}" stroke-dasharray="4 3"/>',
            "</svg>",
            "",
        ]
    )


def _points(shares: Sequence[float], height: int, top: int) -> list[tuple[float, float]]:
    step = WIDTH / len(shares)
    return [((i + 0.5) * step, top + share * height) for i, share in enumerate(shares)]


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _text(shares: Iterable[float]) -> str:
    return " ".join(str(round(1_000 * float(share))) for share in shares)


def _shares(text: str) -> list[float]:
    return [int(word) / 1_000 for word in text.split()]

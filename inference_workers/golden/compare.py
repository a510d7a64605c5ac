"""Answers against expected answers: how far off, in which measure, and whether that is still good. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference_workers.golden.samples import Golden, Tolerance
from schemas.deployments import GoldenResult
from schemas.predictions import Classification, Embedding, EmbeddingNumbers, Generated, Output, Ranked
from schemas.vectors import decode_vector

WORST = 2.0
"""The deviation of what cannot be compared: another number of outputs, of dimensions, another kind, other labels."""
DEVIATION_MAX = 1e12


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far off an answer is, what of that is allowed, and in which words."""

    value: float
    tolerance: float
    what: str

    @property
    def passed(self) -> bool:
        """Whether it is good enough. NaN is not."""
        return self.value <= self.tolerance

    @property
    def severity(self) -> float:
        """By how many tolerances: orders deviations of different measures."""
        if self.passed:
            return self.value / self.tolerance if self.tolerance else 0.0
        return self.value / self.tolerance if self.tolerance and math.isfinite(self.value) else math.inf


def judge(golden: Golden, answers: Sequence[Sequence[Output]]) -> tuple[GoldenResult, str]:
    """The verdict over all samples (`answers` in their order) and, when it is no, which sample and how far off."""
    each = [
        deviation_of(sample.outputs, found, golden.tolerance)
        for sample, found in zip(golden.samples, answers, strict=True)
    ]
    worst = max(range(len(each)), key=lambda number: each[number].severity)
    one = each[worst]
    value = min(DEVIATION_MAX, one.value) if math.isfinite(one.value) else DEVIATION_MAX
    passed = all(deviation.passed for deviation in each)
    result = GoldenResult(samples=len(each), passed=passed, worst=value, tolerance=one.tolerance)
    if passed:
        return result, ""
    failed = sum(not deviation.passed for deviation in each)
    asked = golden.samples[worst].request.model_dump_json(include={"input", "query"}, exclude_none=True)
    return result, f"{failed} of {len(each)} samples are off; worst is sample {worst} {asked[:120]}: {one.what}"


def deviation_of(expected: Sequence[Output], found: Sequence[Output], tolerance: Tolerance) -> Deviation:
    """The worst deviation of an answer's outputs."""
    if all(isinstance(one, Ranked) for one in (*expected, *found)):
        return _of_ranking([one for one in expected if isinstance(one, Ranked)], found, tolerance.score)
    if len(expected) != len(found):
        return Deviation(WORST, 0.0, f"{len(found)} outputs, expected {len(expected)}")
    each = [_of_output(one, other, tolerance) for one, other in zip(expected, found, strict=True)]
    return max(each, key=lambda deviation: deviation.severity)


def _of_output(expected: Output, found: Output, tolerance: Tolerance) -> Deviation:
    if isinstance(expected, Embedding | EmbeddingNumbers) and isinstance(found, Embedding | EmbeddingNumbers):
        return _of_vector(_numbers(expected), _numbers(found), tolerance.vector)
    if isinstance(expected, Classification) and isinstance(found, Classification):
        return _of_labels(expected, found, tolerance.score)
    if isinstance(expected, Generated) and isinstance(found, Generated):
        equal = expected.text == found.text
        what = "equal" if equal else f"text {found.text[:80]!r}, expected {expected.text[:80]!r}"
        return Deviation(0.0 if equal else 1.0, 0.0, what)
    return Deviation(WORST, 0.0, f"{type(found).__name__}, expected {type(expected).__name__}")


def _of_vector(expected: np.ndarray, found: np.ndarray, tolerance: float) -> Deviation:
    if expected.shape != found.shape:
        return Deviation(WORST, tolerance, f"{len(found)} dimensions, expected {len(expected)}")
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return Deviation(math.inf, tolerance, "NaN or infinity among its numbers")
    lengths = float(np.linalg.norm(expected) * np.linalg.norm(found))
    value = 1.0 - float(expected @ found) / lengths if lengths else float(np.linalg.norm(expected - found))
    value = max(0.0, value)  # rounding may give a cosine above 1
    return Deviation(value, tolerance, f"cosine {1.0 - value:.6f}, at least {1.0 - tolerance:g} is needed")


def _of_labels(expected: Classification, found: Classification, tolerance: float) -> Deviation:
    probability = {one.label: one.probability for one in found.labels}
    unknown = [one.label for one in expected.labels if one.label not in probability]
    if unknown:
        return Deviation(WORST, tolerance, f"no label {unknown[0]!r}")
    return max(
        (
            Deviation(
                abs(probability[one.label] - one.probability),
                tolerance,
                f"{one.label} has probability {probability[one.label]:.4f}, expected {one.probability:.4f}",
            )
            for one in expected.labels
        ),
        key=lambda deviation: deviation.severity,
    )


def _of_ranking(expected: Sequence[Ranked], found: Sequence[Output], tolerance: float) -> Deviation:
    """By score: two items can then only change places when their expected scores are within two tolerances. A dot
    product or a distance is compared with its own size where that is above 1."""
    score = {one.index: one.score for one in found if isinstance(one, Ranked)}
    missing = [one.index for one in expected if one.index not in score]
    if missing:
        return Deviation(WORST, tolerance, f"item {missing[0]} is not ranked")
    return max(
        (
            Deviation(
                abs(score[one.index] - one.score) / max(1.0, abs(one.score)),
                tolerance,
                f"item {one.index} has score {score[one.index]:.4f}, expected {one.score:.4f}",
            )
            for one in expected
        ),
        key=lambda deviation: deviation.severity,
    )


def _numbers(output: Embedding | EmbeddingNumbers) -> np.ndarray:
    if isinstance(output, Embedding):
        return np.array(decode_vector(output.vector), dtype=np.float64)
    return np.array(output.numbers, dtype=np.float64)

"""Why requests were not answered, which answers are empty, which bins they fall into: columns, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infra.columns import Texts
from schemas.base import Reason
from schemas.telemetry import Outcome
from schemas.windows import HISTOGRAMS, SPECIAL_TOKENS_BYTES
from stream_jobs.request_arrays import OUTCOMES, RequestArrays

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

TIMEOUTS = frozenset({"expired", "deadline", "timeout", "TimeoutError", "ReadTimeout", "ConnectTimeout"})
"""Codes of shed requests, and classes of errors, that say that there was not enough time."""
OUT_OF_MEMORY = frozenset({"out_of_memory", "MemoryError", "OutOfMemoryError"})
"""The worker's own code, and the classes of Python and torch."""
SCHEMA_REASONS = frozenset(
    reason.value for reason in Reason if reason not in (Reason.TOO_LARGE, Reason.UNSUPPORTED, Reason.REFUSED_BY_TABLE)
)
"""Reasons of dead letters that say that a record is not what the topic carries: its size, what it asks for and what
the table makes of it are other matters."""
_EDGES = {name: np.array(edges) for name, edges in HISTOGRAMS.items()}
_FAILED, _DEAD_LETTERED = OUTCOMES.index(Outcome.FAILED), OUTCOMES.index(Outcome.DEAD_LETTERED)


def rare_of(outcome: Ints, errors: Sequence[str], request_ids: Sequence[str], empty: Bools) -> dict[str, Bools]:
    """Which of n requests are of each sort in `stream_jobs.windows.RARE`; sorts that have none are left out, and
    `uncomputed`, which the window sees by itself.

    `outcome` (n,) as in `WindowRows`. Only those that were not answered are looked at one by one.
    """
    found = {"empty": empty, "repeated": _repeated(request_ids)}
    bad = np.flatnonzero(outcome != 0)
    if len(bad):
        codes = [errors[number] for number in bad.tolist()]
        dead = outcome == _DEAD_LETTERED
        found["timed_out"] = _of(codes, bad, TIMEOUTS, len(outcome)) & ~dead
        found["out_of_memory"] = _of(codes, bad, OUT_OF_MEMORY, len(outcome)) & (outcome == _FAILED)
        found["schema_broken"] = _of(codes, bad, SCHEMA_REASONS, len(outcome)) & dead
    return {name: which for name, which in found.items() if which.any()}


def histogram_bins(requests: RequestArrays) -> dict[str, Ints]:
    """The bin of each request in each histogram, -1 for none: what has no tokens has no share of unknown ones either,
    where confidence or norm is 0 the task has no such thing, and a script or direction of 0 is not told. Tokens a byte
    are of one input, and that whole: what the cache answers was tokenised as well, and counts."""
    answered, tokens = requests.outcome == 0, requests.tokens
    unknown_share, confidence, norm = requests.unknown_share, requests.confidence, requests.output_norm
    return {
        "script_bins": np.where(requests.script > 0, requests.script, -1),
        "direction_bins": np.where(answered & (requests.direction > 0), requests.direction, -1),
        "token_bins": _bins("token_bins", tokens, tokens > 0),
        "unknown_bins": _bins("unknown_bins", unknown_share, tokens > 0),
        "confidence_bins": _bins("confidence_bins", confidence, answered & (confidence > 0.0)),
        "norm_bins": _bins("norm_bins", norm, answered & (norm > 0.0)),
        "fertility_bins": _fertility_bins(requests),
    }


def _bins(name: str, values: Floats | Ints, counted: Bools) -> Ints:
    from stream_jobs.compiled_window import bins_of  # numba takes a second to import

    return bins_of(values.astype(np.float64, copy=False), counted, _EDGES[name])


def _fertility_bins(requests: RequestArrays) -> Ints:
    from stream_jobs.compiled_window import fertility_bins_of  # numba takes a second to import

    columns = requests.tokens, requests.input_bytes, requests.inputs, requests.truncated
    return fertility_bins_of(*columns, SPECIAL_TOKENS_BYTES, _EDGES["fertility_bins"])


def _of(codes: Sequence[str], numbers: Ints, wanted: frozenset[str], count: int) -> Bools:
    which = np.zeros(count, dtype=np.bool_)
    which[numbers] = [code in wanted for code in codes]
    return which


def _repeated(request_ids: Sequence[str]) -> Bools:
    """Those whose id one before them has; what has no id repeats nothing."""
    again = np.zeros(len(request_ids), dtype=np.bool_)
    if _all_different(request_ids):
        return again
    ids, first = np.unique(np.array(list(request_ids), dtype=object), return_index=True)
    again[:] = True
    again[first] = False
    if ids[0] == "":
        again[np.array([not one for one in request_ids])] = False
    return again


def _all_different(texts: Sequence[str]) -> bool:
    """False where that takes a closer look."""
    if isinstance(texts, Texts):
        from stream_jobs.compiled_requests import hashes_of  # numba takes a second to import

        hashes = np.sort(hashes_of(texts.data, texts.ends))
        return not (hashes[1:] == hashes[:-1]).any()
    return len(set(texts)) == len(texts)

"""Runs a computation and sorts what goes wrong in it by what can be done about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from inference_workers.ports import DeviceLost, EngineError, OutOfMemory

T = TypeVar("T")
POISONED = ("device-side assert", "illegal memory access", "unspecified launch failure", "misaligned address")
"""CUDA errors after which the process's context computes nothing any more."""
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
DETAIL_CHARACTERS = 500


def computed(run: Callable[[], T]) -> T:
    """What `run` gives, without gradients. Raises EngineError (OutOfMemory among them) or DeviceLost for torch's."""
    try:
        with torch.inference_mode():
            return run()
    except EngineError:
        raise
    except (RuntimeError, MemoryError) as error:  # torch's own errors are RuntimeErrors, out-of-memory among them
        failure = sorted_failure(error)
    # Outside the handler: inside, its traceback would keep the tensors that took the memory.
    raise _seen_on_device(failure) if torch.cuda.is_initialized() else failure


def _seen_on_device(failure: EngineError | DeviceLost) -> EngineError | DeviceLost:
    """The failure, or that the device is lost: a poisoned context may show first as any error of a library, such as
    CUBLAS_STATUS_EXECUTION_FAILED, but whatever comes after fails, too."""
    try:
        torch.cuda.synchronize()
        if isinstance(failure, OutOfMemory):
            torch.cuda.empty_cache()
    except RuntimeError as later:
        return DeviceLost(f"{str(failure)[:DETAIL_CHARACTERS]}; then: {str(later)[:DETAIL_CHARACTERS]}")
    return failure


def sorted_failure(error: Exception) -> EngineError | DeviceLost:
    """What torch's error means for the worker."""
    text = str(error)
    if any(sign in text for sign in POISONED):
        return DeviceLost(text[:DETAIL_CHARACTERS])
    exhausted = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if exhausted or any(sign in text for sign in OUT_OF_MEMORY):
        return OutOfMemory(text[:DETAIL_CHARACTERS])
    return EngineError(f"{type(error).__name__}: {text[:DETAIL_CHARACTERS]}")

"""What safetensors files hold, read from their headers alone: tensors, numbers, bytes. No weight is read.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference_workers.models.verdicts import Refusal, refuse

HEADER_BYTES_MAX = 100_000_000
"""Largest header that the format allows."""
FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
"""Number types that a model is converted from when it is loaded; whole numbers stay as they are."""


@dataclass(frozen=True, slots=True)
class WeightFacts:
    """Sums over weight files. `parameters` counts floating-point numbers, the bytes are those on disk.

    `other_bytes` belong to tensors that are not converted: positions, masks, quantised weights.
    """

    parameters: int
    float_bytes: int
    other_bytes: int
    largest_tensor_bytes: int
    dtypes: tuple[str, ...]

    @property
    def total_bytes(self) -> int:
        """Bytes of all tensors on disk."""
        return self.float_bytes + self.other_bytes


def weight_facts(paths: Iterable[Path], source: str) -> WeightFacts:
    """Read the headers. Raises ModelRefused (load_error) for a file that is cut short or no safetensors file."""
    parameters = float_bytes = other_bytes = largest = 0
    dtypes = set()
    for path in paths:
        for dtype, numbers, size in _tensors(path, source):
            dtypes.add(dtype)
            largest = max(largest, size)
            if dtype in FLOATS:
                parameters += numbers
                float_bytes += size
            else:
                other_bytes += size
    return WeightFacts(parameters, float_bytes, other_bytes, largest, tuple(sorted(dtypes)))


def _tensors(path: Path, source: str) -> list[tuple[str, int, int]]:
    """(number type, numbers, bytes) of each tensor."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= HEADER_BYTES_MAX:
                raise ValueError(f"its header would have {length} bytes")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        tensors = [_tensor(said) for said in header.values()]
        end = 8 + length + max((stop for *_, stop in tensors), default=0)
        size = path.stat().st_size
        if size != end:
            raise ValueError(f"it has {size} bytes, its header says {end}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise refuse(
            Refusal.LOAD_ERROR,
            source,
            f"{path.name} is no whole safetensors file: {error}",
            "copy or download it again; or save the model with `save_pretrained`",
        ) from None
    return [(dtype, numbers, stop - start) for dtype, numbers, start, stop in tensors]


def _tensor(said: Any) -> tuple[str, int, int, int]:
    shape = said["shape"]
    start, stop = said["data_offsets"]
    if not all(type(one) is int and one >= 0 for one in (*shape, start, stop)):
        raise ValueError("sizes are whole numbers")
    numbers = math.prod(shape)
    if stop < start or numbers > 8 * (stop - start):
        raise ValueError(f"{numbers} numbers do not fit the bytes from {start} to {stop}")
    return str(said["dtype"]), numbers, start, stop

"""Brings a batch's arrays to where they are computed: on CUDA in exactly one copy, from pinned memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
CELL_BYTES = 4
"""int32 and float32: every array's place in the buffer is aligned for both."""


class Staging(Protocol):
    """How arrays get to the device. Called by the engine's thread, once a forward pass."""

    def send(self, arrays: Sequence[Array]) -> list[Tensor]:
        """Each int32 or float32 array as a tensor of its type and shape; valid until the next call."""


class HostStaging:
    """For a CPU: the arrays themselves, not copied."""

    def send(self, arrays: Sequence[Array]) -> list[Tensor]:
        """See `Staging.send`."""
        return [torch.from_numpy(array) for array in arrays]


class PinnedStaging:
    """For CUDA: all arrays packed into one buffer of pinned memory, copied once, cut up on the device.

    The buffer is used again by the next call. That is safe because a pass ends with reading its results, which waits
    for the copy, too; and it is bounded, as a batch is.
    """

    def __init__(self, copy: Callable[[Tensor], Tensor], *, pinned: bool = True) -> None:
        """`copy` takes a one-dimensional int32 tensor of the host to the device. Tests count its calls."""
        self._copy = copy
        self._pinned = pinned
        self._buffer = torch.empty(0, dtype=torch.int32)

    def send(self, arrays: Sequence[Array]) -> list[Tensor]:
        """See `Staging.send`."""
        cells = sum(array.size for array in arrays)
        if cells > len(self._buffer):
            room = 1 << max(12, (cells - 1).bit_length())
            self._buffer = torch.empty(room, dtype=torch.int32, pin_memory=self._pinned)
        host, end = self._buffer.numpy(), 0
        for array in arrays:
            if array.dtype.itemsize != CELL_BYTES:
                raise TypeError(f"int32 or float32 are staged, not {array.dtype}")
            host[end : end + array.size] = np.ascontiguousarray(array).reshape(-1).view(np.int32)
            end += array.size
        there = self._copy(self._buffer[:cells])
        tensors, end = [], 0
        for array in arrays:
            piece = there[end : end + array.size]
            piece = piece.view(torch.float32) if array.dtype == np.float32 else piece
            tensors.append(piece.view(array.shape))
            end += array.size
        return tensors


def staging_for(device: str) -> Staging:
    """The staging for `cpu` or `cuda`."""
    if device == "cpu":
        return HostStaging()
    return PinnedStaging(lambda host: host.to(device, non_blocking=True))

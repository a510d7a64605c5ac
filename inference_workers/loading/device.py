"""Where a model would be computed and how much memory is free there. A door to torch, imported when asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psutil

from inference_workers.loading.free_memory import free_host_bytes
from inference_workers.spec import WorkerSettings, choose_device, choose_dtype


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """The device and number type that the settings come to here. Both functions ask anew, and give bytes.

    `used` is what this process holds of the memory that `free` is about: resident memory, or the device's on CUDA.
    """

    device: str
    dtype: str
    free: Callable[[], int]
    used: Callable[[], int]


def device_facts(settings: WorkerSettings) -> DeviceFacts:
    """Imports torch, seconds the first time. Raises SettingsError for a device or number type that is not there."""
    import torch

    from inference_workers.engines.placement import native_numbers

    device = choose_device(settings, cuda=torch.cuda.is_available())
    bfloat16, float16 = native_numbers(device)
    dtype = choose_dtype(settings, device, bfloat16_is_native=bfloat16, float16_is_native=float16)
    if device == "cuda":
        return DeviceFacts(device, dtype, lambda: int(torch.cuda.mem_get_info()[0]), torch.cuda.memory_reserved)
    return DeviceFacts(device, dtype, free_host_bytes, lambda: int(psutil.Process().memory_info().rss))

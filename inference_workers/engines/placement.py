"""Where a model is computed and with what numbers: device, number type, quantised or compiled, on how many threads."""

from __future__ import annotations

import gc
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch

from inference_workers.engines.staging import Staging, staging_for
from inference_workers.ports import Head
from inference_workers.spec import (
    WorkerSettings,
    choose_device,
    choose_dtype,
    cpu_has_bfloat16,
    cpu_has_float16,
    refused,
)


@dataclass(frozen=True, slots=True)
class Placement:
    """`dtype` is what the activations are; with `int8` the linear layers' weights are 8-bit integers."""

    device: str
    dtype: Any
    int8: bool
    compiled: bool
    staging: Staging

    @property
    def description(self) -> str:
        """Device and number type, for telemetry; at most 200 characters."""
        name = torch.cuda.get_device_name() if self.device == "cuda" else platform.machine()
        numbers = "int8" if self.int8 else str(self.dtype).removeprefix("torch.")
        return f"{self.device} {name} {numbers}{' compiled' if self.compiled else ''}"[:200]

    def memory_bytes(self) -> int:
        """Memory held now: of the device on CUDA, else resident memory of the process."""
        if self.device == "cuda":
            return int(torch.cuda.memory_reserved())
        return int(_this_process().memory_info().rss)

    def release(self) -> None:
        """Give back what is not referred to any more."""
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()


@cache
def _this_process() -> psutil.Process:
    """Made once: it reads several files of /proc."""
    return psutil.Process()


def placement_of(settings: WorkerSettings, head: Head) -> Placement:
    """The placement that the settings come to here. Raises SettingsError for what cannot work."""
    device = choose_device(settings, cuda=torch.cuda.is_available())
    bfloat16, float16 = native_numbers(device)
    dtype = choose_dtype(settings, device, bfloat16_is_native=bfloat16, float16_is_native=float16)
    if settings.compile and head is Head.TOKENS:
        raise refused(
            "compile",
            settings.compile,
            "this model generates, and its shapes grow with every token: it would be compiled over and over",
            "set it to false; or serve a model that gives vectors or labels",
        )
    torch.set_num_threads(settings.torch_threads)
    if settings.compile:
        # Else it starts a process for each core, which stays and holds torch a second time.
        torch._inductor.config.compile_threads = 1
    if dtype == "int8":
        # Around the integers, measured on a CPU: float32 is as fast as bfloat16 and nearer to the true result.
        numbers = torch.bfloat16 if device == "cuda" and bfloat16 else torch.float32
    else:
        numbers = getattr(torch, dtype)
    return Placement(device, numbers, dtype == "int8", settings.compile, staging_for(device))


def native_numbers(device: str) -> tuple[bool, bool]:
    """Whether the device computes bfloat16 and float16 itself."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False)), True
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False, False
    return cpu_has_bfloat16(text), cpu_has_float16(text)

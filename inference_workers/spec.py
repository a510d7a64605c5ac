"""The worker's settings: which model, on what, in which batches. Impossible ones are refused at start in words."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from inference_workers.batching.planner import BatchLimit
from inference_workers.models.settings import WORKER_PREFIX, ModelSettings
from infra.settings import SettingsError

Device = Literal["cpu", "cuda"]
DType = Literal["float32", "bfloat16", "float16", "int8"]
_PRIORITY = r"[a-z0-9][a-z0-9_.\-]{0,63}=-?[0-9]{1,6}"
PRIORITIES_PATTERN = rf"^({_PRIORITY}(,{_PRIORITY})*)?$"


class WorkerSettings(ModelSettings):
    """How an inference worker serves."""

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: CUDA where there is a device.")
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        default="auto",
        description="Numbers of the computation. auto: bfloat16 where the device computes it natively "
        "(twice as fast), else float32. int8: the linear layers' weights as 8-bit integers, a quarter of the memory; "
        "faster than float32 only with compile; an embedding keeps a cosine above 0.99 to its float32 one.",
    )
    compile: bool = Field(
        default=False,
        description="Whether torch.compile builds kernels for the model: a minute or two at a start, and worth it for "
        "int8 on CPUs without bfloat16 (1.65 times float32). Needs a C++ compiler. Not for models that generate.",
    )
    torch_threads: Annotated[int, Field(ge=1, le=1_024)] = Field(
        default=1,
        description="CPU threads of one forward pass. More help only where as many cores are idle: threads that wait "
        "for one another on busy cores cost 6 times the throughput. Better start more workers.",
    )
    batch_tokens_max: Annotated[int, Field(ge=16, le=1_048_576)] = Field(
        default=1_024,
        description="Tokens of one forward pass, padding included. On a CPU more than 200 give no more throughput, "
        "only latency; on a GPU raise it to 16384.",
    )
    batch_requests_max: Annotated[int, Field(ge=1, le=2_000)] = Field(
        default=64, description="Requests of one batch; bounds the latency that company costs."
    )
    wait_ms_max: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=5, description="Milliseconds that an idle worker waits for company before it computes a small batch."
    )
    text_bytes_max: Annotated[int, Field(ge=1, le=1_048_576)] = Field(
        default=8_192,
        description="UTF-8 bytes of one input that are tokenised. What is cut is flagged as truncated. 8 KB is four "
        "times what 256 tokens of prose take, and keeps a 1 MB text from costing 400 ms.",
    )
    image_folder: Path | None = Field(
        default=None, description="Folder of the images that requests name. Unset: images are refused."
    )
    image_bytes_max: Annotated[int, Field(ge=1, le=2**30)] = Field(
        default=10_485_760, description="Bytes of one image file; a larger one is refused unread."
    )
    image_pixels_max: Annotated[int, Field(ge=1, le=50_000_000)] = Field(
        default=25_000_000,
        description="Pixels of one image, width times height, judged before it is decoded: a file of 10 KB can hold "
        "billions. 25 million take 75 MB while they are read.",
    )
    image_threads: Annotated[int, Field(ge=1, le=32)] = Field(
        default=2,
        description="Images read at once, beside the loop and what is computed. Each may take the memory of one "
        "largest image; so may up to 8 more that hang.",
    )
    image_timeout_ms: Annotated[int, Field(ge=10, le=600_000)] = Field(
        default=5_000,
        description="Longest time to read one image, milliseconds; then its request fails as image_timeout. A photo "
        "of 12 million pixels takes about 300 as JPEG, 800 as PNG.",
    )
    queue_requests_max: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=4_000,
        description="Requests that wait in the worker or are computed; above it fetching pauses. It pauses, too, in a "
        "partition of which 2,000 are not done: answered, told of and confirmed.",
    )
    queue_bytes_max: Annotated[int, Field(ge=1_048_576, le=2**36)] = Field(
        default=67_108_864, description="Bytes of requests held by the worker; above it fetching pauses."
    )
    request_tokens_max: Annotated[int, Field(ge=1, le=16_777_216)] = Field(
        default=16_384,
        description="Tokens of one request, all inputs together. Above it is shed as over_limit: 64 inputs of 256 fit.",
    )
    priorities: Annotated[str, Field(pattern=PRIORITIES_PATTERN, max_length=4_096)] = Field(
        default="",
        description="Head starts of scenarios in milliseconds, such as checkout=500,reports=-2000. A request goes "
        "before those that came so much earlier; nobody starves.",
    )
    cache_bytes_max: Annotated[int, Field(ge=0, le=2**40)] = Field(
        default=0,
        description="Bytes of results kept for equal inputs, the least recently used go first; 0: none are kept. "
        "67108864 holds 32,000 vectors of 384 numbers. Off by default: hits hide how fast a model is.",
    )
    telemetry_flush_ms: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=500,
        description="Longest time that an outcome waits to be told, milliseconds. An event of many requests costs the "
        "worker and the jobs less a request; a worker that dies leaves so much to be answered again.",
    )
    group: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        default="inference-workers", description="Consumer group; workers of one group share the requests."
    )
    worker_id: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="Name of this worker in answers and telemetry. Unset: host name and process id."
    )
    drills: bool = Field(
        default=False, description="Whether this worker follows control.drills and misbehaves on demand."
    )
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=0, description="Port of /metrics on loopback; 0: not served."
    )

    @property
    def head_starts_ms(self) -> dict[str, int]:
        """The priorities, by scenario."""
        pairs = (one.split("=") for one in self.priorities.split(",") if one)
        return {scenario: int(milliseconds) for scenario, milliseconds in pairs}

    @property
    def batch_limit(self) -> BatchLimit:
        """The planner's bounds."""
        return BatchLimit(self.batch_tokens_max, self.batch_requests_max, self.wait_ms_max)

    def name_of_worker(self) -> str:
        """The worker's id."""
        return self.worker_id or f"{socket.gethostname()[:150]}-{os.getpid()}"


def choose_device(settings: WorkerSettings, *, cuda: bool) -> Device:
    """Where to compute. Raises SettingsError when CUDA is asked for and there is none."""
    if settings.device == "cuda" and not cuda:
        raise refused(
            "device",
            "cuda",
            "torch finds no CUDA device here",
            "set it to cpu or auto; or install the GPU's driver; or give the container the GPU",
        )
    if settings.device == "auto":
        return "cuda" if cuda else "cpu"
    return settings.device


def choose_dtype(
    settings: WorkerSettings, device: Device, *, bfloat16_is_native: bool, float16_is_native: bool = False
) -> DType:
    """What to compute with. Raises SettingsError for what the device would have to emulate. CUDA has float16 always."""
    if settings.dtype == "bfloat16" and not bfloat16_is_native:
        raise refused(
            "dtype",
            "bfloat16",
            f"this {device} has no bfloat16 instructions and would be slower than with float32",
            "set it to float32 or auto; or run on a CPU with avx512_bf16 or amx, or a GPU from 2020 on",
        )
    if settings.dtype == "float16" and device == "cpu" and not float16_is_native:
        raise refused(
            "dtype",
            "float16",
            "this CPU has no float16 arithmetic and would be many times slower than with float32",
            "set it to auto, which takes the fastest that is right here; or run on a GPU, or a CPU with avx512_fp16",
        )
    if settings.dtype == "auto":
        return "bfloat16" if bfloat16_is_native else "float32"
    return settings.dtype


def check_limits(settings: WorkerSettings, tokens_max: int) -> None:
    """Raise SettingsError when one longest input of the model would not fit a forward pass."""
    if settings.batch_tokens_max < tokens_max:
        raise refused(
            "batch_tokens_max",
            settings.batch_tokens_max,
            f"the model reads inputs of up to {tokens_max} tokens, and one must fit",
            f"set it to {tokens_max} or more; or serve a model with a smaller max_seq_length",
        )


def cpu_has_bfloat16(cpuinfo: str) -> bool:
    """Whether Linux' /proc/cpuinfo names native bfloat16 arithmetic: AVX512-BF16, AMX, or Arm's bf16."""
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(_cpu_flags(cpuinfo))


def cpu_has_float16(cpuinfo: str) -> bool:
    """Whether Linux' /proc/cpuinfo names native float16 arithmetic of vectors: AVX512-FP16, AMX, or Arm's asimdhp."""
    return not {"avx512_fp16", "amx_fp16", "asimdhp"}.isdisjoint(_cpu_flags(cpuinfo))


def _cpu_flags(cpuinfo: str) -> list[str]:
    for line in cpuinfo.splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return flags.split()
    return []


def refused(field: str, value: object, why: str, ways_out: str) -> SettingsError:
    """The error for one of the worker's settings, in the house's words."""
    return SettingsError(f"{WORKER_PREFIX}{field.upper()}={value}: {why}. Ways out: {ways_out}.")

"""The door to torch and transformers: loads a model from safetensors, computes embeddings, sorts its failures."""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
import torch
from safetensors import safe_open
from torch import Tensor

from inference_workers.bert import BertEncoder, is_plain_bert
from inference_workers.ports import DeviceLost, EngineError, Forward, Head, Item, NonFiniteOutput, OutOfMemory
from inference_workers.registry import ModelFolder, Pooling
from inference_workers.spec import WorkerSettings, check_limits, choose_device, choose_dtype, cpu_has_bfloat16

LOG = logging.getLogger(__name__)
POISONED = ("device-side assert", "illegal memory access", "unspecified launch failure", "misaligned address")
"""CUDA errors after which the process's context computes nothing any more."""
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
WARM_UP_LENGTHS = (4, 8, 5)


class _Encoder(Protocol):
    def encode(self, sequences: Sequence[Sequence[int]]) -> tuple[Tensor, int]: ...


def load_engine(settings: WorkerSettings, model: ModelFolder) -> TorchEngine:
    """Load a model as the settings say and warm it up. Raises SettingsError for what cannot work here."""
    check_limits(settings, model.tokens_max)
    device = choose_device(settings, cuda=torch.cuda.is_available())
    dtype = choose_dtype(settings, device, bfloat16_is_native=_has_bfloat16(device))
    torch.set_num_threads(settings.torch_threads)
    encoder = _load_encoder(model, device, getattr(torch, dtype))
    engine = TorchEngine(encoder, model.pooling, normalise=model.normalise, device=device, dtype=dtype)
    # The first passes build kernels; the first request shall not wait for that.
    engine.compute([Item([0] * length, b"", cost=length) for length in WARM_UP_LENGTHS])
    return engine


class TorchEngine:
    """A loaded embedding model. Used by one thread."""

    def __init__(self, encoder: _Encoder, pooling: Pooling, *, normalise: bool, device: str, dtype: str) -> None:
        self.device = device
        self.dtype = dtype
        self._encoder = encoder
        self._pooling = pooling
        self._normalise = normalise
        self._process = psutil.Process()

    @property
    def description(self) -> str:
        """Device and number type, for telemetry."""
        name = torch.cuda.get_device_name() if self.device == "cuda" else platform.machine()
        return f"{self.device} {name} {self.dtype}"[:200]

    @property
    def head(self) -> Head:
        """See `Engine.head`."""
        return Head.VECTORS

    def close(self) -> None:
        """See `Engine.close`."""
        del self._encoder

    def compute(self, items: Sequence[Item]) -> Forward:
        """See `Engine.compute`. Pooling, norms and normalising are computed in float32 whatever the dtype."""
        sequences = [item.ids for item in items]
        try:
            with torch.inference_mode():
                states, computed = self._encoder.encode(sequences)
                pooled = _pool(states.float(), [len(one) for one in sequences], self._pooling)
                norms = torch.linalg.vector_norm(pooled, dim=1)
                if self._normalise:
                    pooled = pooled / norms.clamp_min(1e-12)[:, None]
                vectors, lengths = pooled.cpu().numpy(), norms.cpu().numpy()
        except RuntimeError as error:  # torch's own errors are subclasses, out-of-memory among them
            failure = _sorted(error)
        else:
            if np.isfinite(vectors).all() and np.isfinite(lengths).all():
                return Forward(np.ascontiguousarray(vectors, dtype="<f4"), lengths, computed)
            failure = NonFiniteOutput(f"the model gave NaN or infinity for some of {len(sequences)} inputs")
        # Outside the handler: inside, its traceback would keep the tensors that took the memory.
        if isinstance(failure, OutOfMemory) and self.device == "cuda":
            torch.cuda.empty_cache()
        raise failure

    def memory_bytes(self) -> int:
        """See `Engine.memory_bytes`."""
        if self.device == "cuda":
            return int(torch.cuda.memory_reserved())
        return int(self._process.memory_info().rss)


def _pool(states: Tensor, lengths: Sequence[int], pooling: Pooling) -> Tensor:
    """Packed token states [tokens, hidden] to one vector a sequence [n, hidden]."""
    counts = torch.tensor(lengths, device=states.device)
    if pooling is Pooling.CLS:
        return states[torch.cumsum(counts, 0) - counts]
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=states.device), counts)
    empty = torch.zeros(len(lengths), states.shape[1], device=states.device)
    if pooling is Pooling.MAX:
        index = owner[:, None].expand_as(states)
        return empty.scatter_reduce(0, index, states, "amax", include_self=False)
    return empty.index_add(0, owner, states) / counts[:, None]


class _TransformersEncoder:
    """Any other architecture, through Transformers, padded."""

    def __init__(self, folder: Path, *, device: str, dtype: Any) -> None:
        from transformers import AutoModel

        self._model = AutoModel.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=dtype
        )
        self._model.eval().to(device)
        self._device = device
        self._padding = int(self._model.config.pad_token_id or 0)

    def encode(self, sequences: Sequence[Sequence[int]]) -> tuple[Tensor, int]:
        longest = max(map(len, sequences))
        ids = torch.full((len(sequences), longest), self._padding)
        mask = torch.zeros((len(sequences), longest), dtype=torch.long)
        for row, one in enumerate(sequences):
            ids[row, : len(one)] = torch.tensor(one)
            mask[row, : len(one)] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        return states[mask.bool()], len(sequences) * longest


def _load_encoder(model: ModelFolder, device: str, dtype: Any) -> _Encoder:
    if not is_plain_bert(model.config):
        LOG.info("model type %s: computed by transformers, padded", model.config["model_type"])
        return _TransformersEncoder(model.path, device=device, dtype=dtype)
    weights: dict[str, Tensor] = {}
    for path in model.weights:
        with safe_open(path, framework="pt") as file:
            weights.update((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
    return BertEncoder(model.config, weights, device=device, dtype=dtype)


def _has_bfloat16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        return cpu_has_bfloat16(Path("/proc/cpuinfo").read_text())
    except OSError:
        return False


def _sorted(error: RuntimeError) -> EngineError | DeviceLost:
    text = str(error)
    if any(sign in text for sign in POISONED):
        return DeviceLost(text[:500])
    if isinstance(error, torch.OutOfMemoryError) or any(sign in text for sign in OUT_OF_MEMORY):
        return OutOfMemory(text[:500])
    return EngineError(f"{type(error).__name__}: {text[:500]}")

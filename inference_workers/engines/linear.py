"""Linear layers of the packed encoder: plain, packed once for oneDNN, or of 8-bit integers.

Packed ones are torch's own operators, which `torch.compile` uses when it freezes a model: the weight is reordered once
instead of in every call, and activation or residual is applied while the result is in the cache. Measured on 400
tokens of all-MiniLM-L6-v2: 10 % of the whole pass in bfloat16, 12 % in float32. They are used where they give what the
plain ones give, which is tried once.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from inference_workers.engines.placement import Placement
from inference_workers.engines.quantised import quantise

LOG = logging.getLogger(__name__)
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": functional.gelu, "relu": functional.relu}
_Packed = tuple[str, list[float], str]
PACKED_ACTIVATIONS: dict[str, _Packed] = {"gelu": ("gelu", [], "none"), "relu": ("relu", [], "")}
_NO_ACTIVATION: _Packed = ("none", [], "")
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


class Linear(Protocol):
    """x [tokens, in] to x W^T + b [tokens, out]."""

    def __call__(self, x: Tensor) -> Tensor:
        """The product alone."""

    def activated(self, x: Tensor, activation: str) -> Tensor:
        """The product through one of `ACTIVATIONS`."""

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        """The product plus `residual` [tokens, out]."""


class PlainLinear:
    """Any function that computes the product."""

    def __init__(self, product: Callable[[Tensor], Tensor]) -> None:
        self._product = product

    def __call__(self, x: Tensor) -> Tensor:
        return self._product(x)

    def activated(self, x: Tensor, activation: str) -> Tensor:
        """See `Linear.activated`."""
        return ACTIVATIONS[activation](self._product(x))

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        """See `Linear.added`."""
        return self._product(x) + residual


class PackedLinear:
    """oneDNN on a CPU, the weight reordered once. `weight` and `bias` are for its own operators."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *_NO_ACTIVATION)
        return found

    def activated(self, x: Tensor, activation: str) -> Tensor:
        """See `Linear.activated`."""
        way = PACKED_ACTIVATIONS[activation]
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *way)
        return found

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        """See `Linear.added`."""
        found: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")
        return found


def linear_of(weight: Tensor, bias: Tensor, placement: Placement) -> Linear:
    """The fastest layer for the placement. weight [out, in], bias [out], both already there and of its dtype."""
    if placement.int8:
        out_features, in_features = weight.shape
        layer = torch.nn.Linear(in_features, out_features, dtype=weight.dtype, device="meta")
        layer.weight, layer.bias = (torch.nn.Parameter(one, requires_grad=False) for one in (weight, bias))
        return PlainLinear(quantise(torch.nn.Sequential(layer))[0])
    if placement.device == "cpu" and not placement.compiled and _packing_works(placement.dtype):
        return PackedLinear(weight, bias)
    return PlainLinear(lambda x: functional.linear(x, weight, bias))


@cache
def _packing_works(dtype: Any) -> bool:
    """Whether torch's packed operators are there and right; they are not part of its promised interface."""
    if dtype not in _TOLERANCE or platform.machine() not in ("x86_64", "AMD64"):
        return False
    seeded = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=seeded).to(dtype) for shape in ((5, 32), (48, 32), (48,)))
    plain = PlainLinear(lambda x: functional.linear(x, weight, bias))
    residual = plain(x)
    try:
        packed = PackedLinear(weight, bias)
        pairs = [(packed(x), residual), (packed.added(x, residual), plain.added(x, residual))]
        pairs += [(packed.activated(x, name), plain.activated(x, name)) for name in ACTIVATIONS]
    except (AttributeError, RuntimeError) as error:
        LOG.info("linear layers are not packed: %s", str(error).partition("\n")[0][:200])
        return False
    tolerance = _TOLERANCE[dtype]
    return all(torch.allclose(one, other, rtol=tolerance, atol=tolerance) for one, other in pairs)

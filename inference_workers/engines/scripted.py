"""The packed encoder's layers as one program of TorchScript, for layers packed for oneDNN.

torch takes the interpreter's lock again after each operator, and a pass has hundreds of small ones: beside a thread
that decodes and publishes, the computing thread stood still for a tenth of its time and more. A program runs without
the lock. It is the same as `BertEncoder`'s own loop, operator for operator, and a test holds both to the same bits.
"""

# No postponed annotations: TorchScript reads them.
import logging
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, List, Optional, Tuple  # noqa: UP035  TorchScript knows these

import torch
from torch import Tensor

from inference_workers.engines.linear import PackedLinear

LOG = logging.getLogger(__name__)
WEIGHTS_OF_A_LAYER = 12
"""Weight and bias of: qkv, attention out, its norm, up, down, norm."""


def attended(
    qkv: Tensor,
    mask: Optional[Tensor],  # noqa: UP045
    count: int,
    longest: int,
    heads: int,
    scale: Optional[Tensor],  # noqa: UP045
) -> Tensor:
    """Attention within each of `count` inputs of `longest` places, of which those in `mask` [places] are real: [places,
    3 x hidden] to [places, hidden].

    With a `scale` [] step by step (a tensor, because TorchScript would round a number to the tensors' type), else by
    torch's fused one. Short inputs are computed in float32, which takes no longer and where nothing is made for each
    count and length; oneDNN makes two programs, 1 ms, for those that it has not seen lately in bfloat16.
    """
    parts = qkv.view(count, longest, 3, heads, -1).permute(2, 0, 3, 1, 4)
    real = None if mask is None else mask.view(count, 1, 1, longest)
    if scale is None:
        out = torch.nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=real)
    else:
        if longest < 32:
            parts = parts.to(torch.float32, memory_format=torch.contiguous_format)
        scores = torch.matmul(parts[0], parts[1].transpose(-1, -2)).mul_(scale)
        if real is not None:
            scores.masked_fill_(~real, float("-inf"))
        if longest < 16:  # torch's softmax takes two to three times as long for rows shorter than a register
            scores = scores.sub_(scores.amax(-1, keepdim=True)).exp_()
            scores = scores.div_(scores.sum(-1, keepdim=True))
        else:
            scores = scores.softmax(-1)
        out = torch.matmul(scores, parts[2])
    out = out.transpose(1, 2).to(qkv.dtype, memory_format=torch.contiguous_format)
    return out.reshape(count * longest, qkv.shape[1] // 3)


def mixed(
    qkv: Tensor,
    spread: Optional[Tensor],  # noqa: UP045
    back: Optional[Tensor],  # noqa: UP045
    mask: Optional[Tensor],  # noqa: UP045
    groups: List[Tuple[int, int, int, bool]],  # noqa: UP006
    heads: int,
    scale: Optional[Tensor],  # noqa: UP045
    stepwise_max: int,
) -> Tensor:
    """`attended` group by group: packed [rows, 3 x hidden] to packed [rows, hidden]; see `places.Places`. Rows that are
    nobody's get something finite."""
    padded = qkv if spread is None else qkv[spread]
    out = padded.new_zeros([padded.shape[0], padded.shape[1] // 3])
    for group in groups:
        begin, count, longest, even = group
        end = begin + count * longest
        real = None if mask is None or even else mask[begin:end]
        step = scale if longest <= stepwise_max else None
        out[begin:end] = attended(padded[begin:end], real, count, longest, heads, step)
    return out if back is None else out[back]


def layers(
    x: Tensor,
    weights: List[Tensor],  # noqa: UP006
    spread: Optional[Tensor],  # noqa: UP045
    back: Optional[Tensor],  # noqa: UP045
    mask: Optional[Tensor],  # noqa: UP045
    groups: List[Tuple[int, int, int, bool]],  # noqa: UP006
    first: Optional[Tensor],  # noqa: UP045
    heads: int,
    epsilon: float,
    activation: str,
    algorithm: str,
    scale: Optional[Tensor],  # noqa: UP045
    stepwise_max: int,
) -> Tensor:
    """All layers: x [rows, hidden] to the last states, of the `first` tokens alone where they are given. `weights`
    has `WEIGHTS_OF_A_LAYER` for each. Groups of up to `stepwise_max` places an input attend step by step."""
    hidden = x.shape[1]
    count_of_layers = len(weights) // 12
    for number in range(count_of_layers):
        w = weights[12 * number : 12 * number + 12]
        qkv = torch.ops.mkldnn._linear_pointwise(x, w[0], w[1], "none", [], "none")
        seen = mixed(qkv, spread, back, mask, groups, heads, scale, stepwise_max)
        if first is not None and number == count_of_layers - 1:  # nobody looks at the other tokens any more
            seen, x = seen[first], x[first]
        added = torch.ops.mkldnn._linear_pointwise(seen, x, w[2], w[3], "add")
        x = torch.layer_norm(added, [hidden], w[4], w[5], epsilon)
        up = torch.ops.mkldnn._linear_pointwise(x, w[6], w[7], activation, [], algorithm)
        added = torch.ops.mkldnn._linear_pointwise(up, x, w[8], w[9], "add")
        x = torch.layer_norm(added, [hidden], w[10], w[11], epsilon)
    return x


Program = Callable[..., Tensor]


@cache
def program() -> Program | None:
    """`layers`, compiled; None where this torch cannot: TorchScript is not what torch develops any more."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is deprecated is known
            compiled: Any = torch.jit.script(layers)
    except Exception as error:  # whatever the compiler comes up with, the plain loop gives the same
        LOG.info("layers are computed operator by operator: %s", str(error).strip().partition("\n")[0][:200])
        return None

    def run(*arguments: Any) -> Tensor:
        with torch.jit.optimized_execution(False):  # else it looks at shapes first, and fuses: other bits, slow starts
            found: Tensor = compiled(*arguments)
            return found

    return run


def weights_of(linears: "List[PackedLinear]", norms: "List[Tuple[Tensor, Tensor]]") -> List[Tensor]:  # noqa: UP006
    """One layer's tensors in the program's order, from its linear layers (qkv, attention out, up, down) and norms."""
    qkv, out, up, down = linears
    first, second = norms
    found = [qkv.weight, qkv.bias, out.weight, out.bias, *first, up.weight, up.bias, down.weight, down.bias, *second]
    assert len(found) == WEIGHTS_OF_A_LAYER
    return found

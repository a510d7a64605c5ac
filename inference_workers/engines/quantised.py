"""Linear layers as 8-bit integers, by torchao: weights by row once, activations by token while computing.

About 1.3 times the throughput of float32 on a CPU with VNNI, 2.5 times when compiled. On real queries an embedding of
all-MiniLM-L6-v2 keeps a cosine above 0.99 to its float32 one.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from inference_workers.spec import refused


def quantise(model: Any, *, skipped: Any = None) -> Any:
    """The module with its linear layers quantised in place, but for the module `skipped`. Imports torchao: a second.

    Raises SettingsError when there is no such layer: it would be int8 by name only.
    """
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # it warns of torchao's own registrations
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    taken = {id(one) for one in model.modules() if isinstance(one, torch.nn.Linear) and one is not skipped}
    if not taken:
        raise refused(
            "dtype",
            "int8",
            "this model has no torch.nn.Linear layer, which is what torchao makes integers of",
            "set it to auto or float32; or serve another architecture",
        )
    quantize_(model, Int8DynamicActivationInt8WeightConfig(), filter_fn=lambda one, _: id(one) in taken)
    return model

"""Our own engine without Kafka: the one place of the benchmarks that knows how a model is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from benchmarks.worker_process import ServedModel


@dataclass(frozen=True, slots=True)
class OurEngine:
    """`tokenise`: texts to token ids, as the worker does. `embed`: token ids to an array [n, dimension]."""

    tokenise: Callable[[Sequence[str]], list[list[int]]]
    embed: Callable[[Sequence[Sequence[int]]], NDArray[Any]]
    device: str
    dtype: str
    description: str


def open_engine(served: ServedModel) -> OurEngine:
    """Load it as a worker with the same settings would. Raises SettingsError for what cannot work here."""
    from inference_workers.engines.loading import load_engine
    from inference_workers.models.registry import find_model
    from inference_workers.models.tokenise import Tokeniser
    from inference_workers.ports import Item
    from inference_workers.spec import WorkerSettings
    from infra.settings import load

    settings = load(WorkerSettings, model=served.model, dtype=served.dtype, torch_threads=served.threads)
    folder = find_model(settings.model)
    loaded = load_engine(settings, folder)
    device, _, dtype = loaded.description.partition(" ")
    tokeniser = Tokeniser(folder.path, tokens_max=folder.tokens_max, text_bytes_max=settings.text_bytes_max)
    return OurEngine(
        tokenise=lambda texts: [one.ids for one in tokeniser.tokenise(texts)],
        embed=lambda sequences: loaded.engine.compute([Item(ids, b"", cost=len(ids)) for ids in sequences]).rows,
        device=device,
        dtype=dtype.split()[-1],
        description=loaded.description,
    )


def model_path(model: str) -> str:
    """The folder that a model's name means, for peers that know no package names."""
    from inference_workers.models.registry import find_model

    return str(find_model(model).path)


def wait_limit_ms() -> int:
    """How long a worker with this environment waits for company for a batch."""
    from inference_workers.spec import WorkerSettings
    from infra.settings import load

    return load(WorkerSettings).wait_ms_max

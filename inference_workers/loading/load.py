"""From what a model is called to a model that may serve: found, checked, forecast, loaded, warmed up, golden-checked.

Nothing is loaded before it is known to be safe, whole, the one that was asked for, and to fit into memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from inference_workers.golden import answer, check_golden
from inference_workers.loading.device import DeviceFacts, device_facts
from inference_workers.loading.preflight import (
    LESS_MEMORY,
    ModelWanted,
    check_files,
    check_memory,
    golden_of,
    locate,
    tokeniser_of,
)
from inference_workers.models.registry import ModelFolder
from inference_workers.models.servable import Servable
from inference_workers.models.verdicts import LoadFacts, LoadingStopped, ModelRefused, Refusal, refuse
from inference_workers.ports import DeviceLost, Engine, EngineError, Head, Item, OutOfMemory, Sampling
from inference_workers.spec import WorkerSettings
from inference_workers.tasks.inputs import Refused
from infra.clock import SystemClock
from infra.ports import Clock
from infra.settings import SettingsError
from schemas.predictions import ModelRef
from schemas.requests import Generation, ImageReference, InferenceRequested, Task

T = TypeVar("T")
LOG = logging.getLogger(__name__)
WARM_UP_TEXT = "warm up"
WARM_UP_TASKS: dict[Head, Task] = {Head.VECTORS: "embed", Head.LOGITS: "classify", Head.TOKENS: "generate"}
ANOTHER_MODEL = "name another model; or correct its configuration"


class LoadedEngine(Protocol):
    """An engine and what of its model the worker must know."""

    @property
    def engine(self) -> Engine:
        """Computes."""

    @property
    def labels(self) -> Sequence[str]:
        """Names of the logits; empty for other heads."""

    @property
    def multi_label(self) -> bool:
        """Whether each logit is a probability of its own."""

    @property
    def images(self) -> bool:
        """Whether it reads images."""

    @property
    def description(self) -> str:
        """Device and number type, for telemetry."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What loading needs of the outside world. `device` and `load_engine` import torch when they are called; once
    `is_stopped` says so, no further step is begun."""

    device: Callable[[WorkerSettings], DeviceFacts]
    load_engine: Callable[[WorkerSettings, ModelFolder], LoadedEngine]
    clock: Clock
    is_stopped: Callable[[], bool] = lambda: False

    def go_on(self) -> None:
        """Between two steps. Raises LoadingStopped."""
        if self.is_stopped():
            raise LoadingStopped


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that may serve, and what loading it took."""

    servable: Servable
    facts: LoadFacts


def real_outside(is_stopped: Callable[[], bool] = lambda: False) -> Outside:
    """Torch, this machine, its clock. Imports neither torch nor anything else that is slow."""
    return Outside(device_facts, _load_engine, SystemClock(), is_stopped)


def _load_engine(settings: WorkerSettings, model: ModelFolder) -> LoadedEngine:
    from inference_workers.engines.loading import load_engine

    return load_engine(settings, model)


def _image_reader(settings: WorkerSettings, model: ModelFolder) -> Callable[[ImageReference], Item] | None:
    from inference_workers.images.folder import image_source

    return image_source(settings, model.path, model.config)


def load_servable(
    wanted: ModelWanted, settings: WorkerSettings, outside: Outside, *, try_golden: bool = True
) -> Loaded:
    """Load a model for serving. Blocks for seconds; for any thread, and several at once. Nothing is held when it fails.

    Without `try_golden` its golden samples are left alone: for recording them anew.

    Raises ModelRefused, with the facts found so far, when the model must not or cannot serve here, DeviceLost when the
    process can compute nothing any more, and LoadingStopped once `outside.is_stopped` says so.
    """
    ref = ModelRef(name=wanted.model_name, version=wanted.version)
    facts = LoadFacts(ref, wanted.model if wanted.revision is None else f"{wanted.model}@{wanted.revision}")
    began = outside.clock.monotonic()
    try:
        servable = _load(wanted, settings, outside, facts, try_golden=try_golden)
    except ModelRefused as refusal:
        refusal.facts = facts
        raise
    except SettingsError as error:  # a number type or device that is not there, a limit that is too small
        unsupported = ModelRefused(Refusal.UNSUPPORTED, str(error))
        unsupported.facts = facts
        raise unsupported from None
    except OSError as error:  # a file that went away, or that this user may not read
        gone = refuse(Refusal.LOAD_ERROR, facts.source, f"it cannot be read: {_words(error)}", "copy the model again")
        gone.facts = facts
        raise gone from None
    except (DeviceLost, LoadingStopped):
        raise
    except Exception as error:  # a name or a file that makes some library raise what nobody foresaw
        odd = refuse(Refusal.LOAD_ERROR, facts.source, f"it cannot be loaded: {_words(error)}", ANOTHER_MODEL)
        odd.facts = facts
        raise odd from None
    finally:
        facts.load_ms = (outside.clock.monotonic() - began) * 1000
    servable.load_seconds = facts.load_ms / 1000
    LOG.info("%s %s from %s is ready after %.0f ms", ref.name, ref.version, facts.source, facts.load_ms)
    return Loaded(servable, facts)


def _load(
    wanted: ModelWanted, settings: WorkerSettings, outside: Outside, facts: LoadFacts, *, try_golden: bool
) -> Servable:
    model = locate(wanted, settings)
    outside.go_on()
    with ThreadPoolExecutor(1, thread_name_prefix="torch") as pool:
        device = pool.submit(outside.device, settings)  # imports torch meanwhile: seconds, most of a worker's start
        check_files(model, wanted, settings, facts)
        tokeniser = tokeniser_of(model, settings)
        golden, golden_file = golden_of(model, wanted, settings) if try_golden else (None, "")
        here = device.result()
    check_memory(model, settings, here, facts)
    outside.go_on()
    used_before = here.used()
    loaded = _guarded(model, lambda: outside.load_engine(settings, model))
    try:
        outside.go_on()
        servable = Servable(
            ref=facts.ref,
            tokeniser=tokeniser,
            engine=loaded.engine,
            device=loaded.description,
            tokens_max=model.tokens_max,
            labels=loaded.labels,
            multi_label=loaded.multi_label,
            classifies=model.config.get("problem_type") != "regression",
            similarity=model.similarity,
            images=loaded.images,
            variant=f"{model.path}|{model.pooling}|{model.normalise}",
            read_image=_image_reader(settings, model) if loaded.images else None,
        )
        if not servable.tasks:
            why = f"it gives {len(servable.labels)} numbers (problem_type regression), no probabilities of labels"
            ways_out = "serve a classifier; or a model of one number, which ranks"
            raise refuse(Refusal.UNSUPPORTED, model.source, why, ways_out)
        outside.go_on()
        _guarded(model, lambda: warm_up(servable, settings, has_golden=golden is not None))
        if golden is not None:
            outside.go_on()
            facts.golden, why = _guarded(model, lambda: check_golden(servable, golden))
            if not facts.golden.passed:
                ways_out = f"find out what changed since {golden_file} was made; or record it again if this is right"
                raise refuse(Refusal.GOLDEN, model.source, f"its answers are not as expected: {why}", ways_out)
        facts.memory_bytes = max(0, here.used() - used_before)
    except BaseException:
        loaded.engine.close()
        raise
    return servable


def warm_up(servable: Servable, settings: WorkerSettings, *, has_golden: bool) -> None:
    """Compute what the settings say, so that the first request finds kernels built and memory proved."""
    if settings.warm_up == "none":
        return
    if settings.warm_up == "full":
        servable.engine.compute(_fullest_pass(servable, settings))
    elif not has_golden:  # golden samples are a short warm-up
        task = WARM_UP_TASKS[servable.engine.head]
        generation = Generation(max_tokens=2) if task == "generate" else None
        task, query = (task, None) if task in servable.tasks else ("rerank", WARM_UP_TEXT)
        answer(servable, InferenceRequested(input=WARM_UP_TEXT, task=task, query=query, generation=generation))


def _fullest_pass(servable: Servable, settings: WorkerSettings) -> list[Item]:
    """As many longest inputs as the token budget allows, at least one."""
    [known] = servable.tokeniser.tokenise([WARM_UP_TEXT])
    longest = min(servable.tokens_max, settings.batch_tokens_max)
    sampling = Sampling(max_tokens=1) if servable.engine.head is Head.TOKENS else None
    ids = known.ids * (longest // max(1, len(known.ids)) + 1)
    ids = ids[: longest if sampling is None else longest - sampling.max_tokens]
    count = max(1, min(settings.batch_requests_max, settings.batch_tokens_max // longest))
    return [Item(ids, b"", sampling=sampling, cost=longest)] * count


def _guarded(model: ModelFolder, load: Callable[[], T]) -> T:
    """Whatever a model's files make torch do, it is that model's failure and no crash. DeviceLost goes through."""
    try:
        return load()
    except (SettingsError, DeviceLost):
        raise
    except (OutOfMemory, MemoryError) as error:
        failure = refuse(Refusal.MEMORY, model.source, f"memory ran out: {_words(error)}", LESS_MEMORY)
    except (EngineError, Refused) as error:
        failure = refuse(Refusal.LOAD_ERROR, model.source, f"it cannot compute: {_words(error)}", ANOTHER_MODEL)
    except Exception as error:
        kind = Refusal.MEMORY if "out of memory" in str(error) else Refusal.LOAD_ERROR
        failure = refuse(kind, model.source, f"it cannot be loaded: {_words(error)}", ANOTHER_MODEL)
    # Outside the handler: inside, its traceback would keep the tensors that were loaded already.
    raise failure


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:500]}"

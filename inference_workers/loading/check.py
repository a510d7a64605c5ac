"""Goes through what a worker does before a model serves, and keeps what each step found, up to the one that refused."""

from __future__ import annotations

from inference_workers.golden import golden_for
from inference_workers.loading.load import Outside, load_servable
from inference_workers.loading.preflight import ModelWanted, check_files, check_memory, locate, memory_forecast
from inference_workers.loading.report import Findings
from inference_workers.models.verdicts import LoadFacts, ModelRefused, Refusal
from inference_workers.models.weight_headers import weight_facts
from inference_workers.spec import WorkerSettings
from infra.settings import SettingsError
from schemas.predictions import ModelRef


def check_model(wanted: ModelWanted, settings: WorkerSettings, outside: Outside, *, load: bool) -> Findings:
    """What a worker would make of a model; `load` also loads it and tries its golden samples. Blocks for seconds.

    Raises DeviceLost, and nothing else for whatever the model is.
    """
    found = Findings(LoadFacts(ModelRef(name=wanted.model_name, version=wanted.version), wanted.model))
    try:
        _go_through(found, wanted, settings, outside)
        if load:
            loaded = load_servable(wanted, settings, outside)
            found.facts, servable = loaded.facts, loaded.servable
            found.tasks, found.labels, found.device = servable.tasks, servable.labels, servable.device
            servable.engine.close()
    except ModelRefused as refusal:
        found.refusal = refusal
        found.facts = refusal.facts or found.facts
    except SettingsError as error:
        found.refusal = ModelRefused(Refusal.UNSUPPORTED, str(error))
    return found


def _go_through(found: Findings, wanted: ModelWanted, settings: WorkerSettings, outside: Outside) -> None:
    """Every step but loading; what tells most about the model comes first."""
    model = found.model = locate(wanted, settings)
    found.weights = weight_facts(model.weights, model.source)
    here = outside.device(settings)
    found.forecast = memory_forecast(model, settings, here)
    check_files(model, wanted, settings, found.facts)
    found.golden, _ = golden_for(model, wanted.golden)
    check_memory(model, settings, here, found.facts)

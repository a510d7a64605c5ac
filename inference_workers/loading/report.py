"""What `inferwatch model check` says of a model, as one JSON object and as lines for people. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference_workers.golden import Golden
from inference_workers.models.forecast import Forecast, shape_of
from inference_workers.models.registry import ModelFolder
from inference_workers.models.servable import TASKS
from inference_workers.models.verdicts import LoadFacts, ModelRefused
from inference_workers.models.weight_headers import WeightFacts

MB = 1_000_000


@dataclass(slots=True)
class Findings:
    """What was found out about a model, step by step; None where a step before it refused the model.

    `tasks`, `labels` and `device` are the loaded model's own.
    """

    facts: LoadFacts
    refusal: ModelRefused | None = None
    model: ModelFolder | None = None
    weights: WeightFacts | None = None
    forecast: Forecast | None = None
    golden: Golden | None = None
    tasks: Collection[str] | None = None
    labels: Sequence[str] = ()
    device: str | None = None

    @property
    def verdict(self) -> str:
        """`ready`, `refused`, or `not loaded` when nothing speaks against it so far."""
        if self.refusal is not None:
            return "refused"
        return "not loaded" if self.device is None else "ready"


def report_of(found: Findings) -> dict[str, Any]:
    """The findings as one JSON object. What was not found out is null."""
    facts, refusal, model, weights, forecast = found.facts, found.refusal, found.model, found.weights, found.forecast
    loaded = found.device is not None
    return {
        "model": facts.source,
        "verdict": found.verdict,
        "reason": "" if refusal is None else refusal.reason.value,
        "message": "" if refusal is None else str(refusal),
        "folder": None if model is None else str(model.path),
        **_of_folder(model),
        "tasks": None if model is None else sorted(found.tasks or TASKS[model.head]),
        "labels": list(found.labels),
        "parameters": None if weights is None else weights.parameters,
        "weights_bytes": None if weights is None else weights.total_bytes,
        "number_types": None if weights is None else list(weights.dtypes),
        "digest": facts.ref.digest or None,
        "manifest": facts.manifest or None,
        "forecast_bytes": None if forecast is None else forecast.total_bytes,
        "forecast_weights_bytes": None if forecast is None else forecast.weights_bytes,
        "memory_bytes": facts.memory_bytes if loaded else None,
        "load_ms": round(facts.load_ms, 1) if loaded else None,
        "device": found.device,
        "golden": None if found.golden is None else _of_golden(found.golden, facts),
    }


def _of_folder(model: ModelFolder | None) -> dict[str, Any]:
    if model is None:
        return dict.fromkeys(("type", "head", "tokens_max", "layers", "hidden"))
    shape = shape_of(model.config)
    return {
        "type": model.config["model_type"],
        "head": model.head.value,
        "tokens_max": model.tokens_max,
        "layers": shape.layers,
        "hidden": shape.hidden,
    }


def _of_golden(golden: Golden, facts: LoadFacts) -> dict[str, Any]:
    result = facts.golden
    return {
        "samples": len(golden.samples),
        "passed": None if result is None else result.passed,
        "worst": None if result is None else result.worst,
        "tolerance": None if result is None else result.tolerance,
    }


def lines_of(report: Mapping[str, Any]) -> list[str]:
    """The report for people, what is not known left out."""
    golden = report["golden"]
    rows = [
        ("model", report["model"]),
        ("folder", report["folder"]),
        ("type", None if report["type"] is None else f"{report['type']}, {report['head']}"),
        ("tasks", None if report["tasks"] is None else ", ".join(report["tasks"])),
        ("reads", None if report["tokens_max"] is None else f"up to {report['tokens_max']} tokens"),
        ("labels", ", ".join(report["labels"][:10]) or None),
        ("parameters", _parameters(report)),
        ("digest", report["digest"]),
        ("manifest", None if report["digest"] is None else _manifest(report)),
        ("memory", _memory(report)),
        ("golden", _golden(golden) if report["type"] is not None else None),
        ("loaded", None if report["load_ms"] is None else f"in {report['load_ms']:.0f} ms, {report['device']}"),
        ("verdict", report["verdict"] + (f" ({report['reason']})" if report["reason"] else "")),
    ]
    lines = [f"{name:<11}{value}" for name, value in rows if value is not None]
    return [*lines, report["message"]] if report["message"] else lines


def _parameters(report: Mapping[str, Any]) -> str | None:
    if report["parameters"] is None:
        return None
    types = ", ".join(report["number_types"])
    return f"{report['parameters'] / MB:,.1f} million, {report['weights_bytes'] / MB:,.1f} MB as {types}"


def _manifest(report: Mapping[str, Any]) -> str:
    if report["manifest"] is None:
        return "none: `inferwatch model manifest` writes one"
    return f"as {report['manifest']} says"


def _memory(report: Mapping[str, Any]) -> str | None:
    if report["forecast_bytes"] is None:
        return None
    took = "" if report["memory_bytes"] is None else f"; took {report['memory_bytes'] / MB:,.0f} MB"
    return f"forecast {report['forecast_bytes'] / MB:,.0f} MB{took}"


def _golden(golden: Mapping[str, Any] | None) -> str:
    if golden is None:
        return "none: `inferwatch model golden` records some"
    samples = f"{golden['samples']} sample{'' if golden['samples'] == 1 else 's'}"
    if golden["passed"] is None:
        return f"{samples}, not tried"
    how = "passed" if golden["passed"] else "failed"
    return f"{samples} {how}, worst {golden['worst']:.2g} of {golden['tolerance']:g} allowed"

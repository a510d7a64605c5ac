"""The page about models explains every reason for a refusal, and its settings are there."""

import re
from pathlib import Path

from inference_workers.golden import Tolerance
from inference_workers.models.verdicts import Refusal
from inference_workers.spec import WorkerSettings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text()


def test_every_refusal_is_explained():
    explained = set(re.findall(r"^\| `([a-z_]+)` \|", PAGE, re.M))
    assert {reason.value for reason in Refusal} <= explained


def test_its_settings_are_settings():
    named = set(re.findall(r"INFERWATCH_WORKER_([A-Z_]+)", PAGE))
    assert len(named) > 8
    assert {name.lower() for name in named} <= WorkerSettings.model_fields.keys()


def test_its_tolerances_are_the_defaults():
    for name, field in Tolerance.model_fields.items():
        assert re.search(rf"\| `tolerance\.{name}` \| {field.default} \|", PAGE)

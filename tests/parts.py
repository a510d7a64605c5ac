"""Parts of a machine that a test may need and not find: programs, real data, the model's weights.

Without one a test skips with a clear word; with CI set it fails instead, so that nothing goes untested unseen.
"""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from inference_workers.models.registry import ModelFolder, find_model
from inference_workers.spec import WorkerSettings
from infra.embedded.errors import FetchFailed, UnsuitableMachine
from infra.embedded.kafka_runtime import prepare_kafka
from infra.settings import SettingsError

WORKPLACE = Path(__file__).resolve().parents[2] / "shared"
DEFAULT_MODEL = WorkerSettings.model_fields["model"].default


def missing(what: str) -> NoReturn:
    """Skip, or fail in CI: a part that a test needs is not here."""
    if os.environ.get("CI"):
        pytest.fail(f"missing in CI: {what}")
    pytest.skip(f"missing: {what}")


def takes_long(what: str) -> None:
    """Skip, but in CI: a test of half a minute of what hardly anybody changes. `CI=true make test` runs it anywhere."""
    if not os.environ.get("CI"):
        pytest.skip(f"takes long: {what}; CI=true runs it")


def program(name: str) -> str:
    """The path of a program of this machine."""
    return shutil.which(name) or missing(f"the program {name}")


def real_data() -> Path:
    """The folder of real data. They are not shipped: a checkout that nobody has put any beside skips, also in CI."""
    named = os.environ.get("INFERWATCH_DATA")
    folder = Path(named) if named else WORKPLACE / "data"
    if folder.is_dir():
        return folder
    if named or WORKPLACE.is_dir():
        missing(f"the folder of real data {folder} (INFERWATCH_DATA names another)")
    pytest.skip(f"no real data at {folder}: they are not shipped; INFERWATCH_DATA names their folder")


def default_model() -> ModelFolder:
    """The model that the worker serves by default, installed by `make setup`."""
    try:
        return find_model(DEFAULT_MODEL)
    except SettingsError as error:
        missing(str(error))


def kafka_jars() -> None:
    """Java and the broker's jars, fetched now unless they are in the cache."""
    try:
        prepare_kafka()
    except (FetchFailed, UnsuitableMachine) as error:
        missing(str(error))

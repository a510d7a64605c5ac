"""`inferwatch model`: look at a model as a worker would, write its manifest, record its golden samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.exit_codes import EXIT_CONFIGURATION

if TYPE_CHECKING:
    from inference_workers.loading.load import Outside
    from inference_workers.models.registry import ModelFolder
    from inference_workers.spec import WorkerSettings
    from schemas.requests import InferenceRequested

EXIT_REFUSED = 1
"""The model would be refused."""
REQUESTS_MAX = 256
_REVISION = click.option("--revision", help="Commit of a hub id, 40 hex digits.")


@click.group("model")
def model() -> None:
    """Models before they serve: check one, write its manifest, record its golden samples.

    Exit codes: 0 good, 1 refused, 78 no such model or a setting that cannot work.

    \b
    Example:
      inferwatch model check ./my-model
      inferwatch model golden ./my-model --input "red shoes" --input "tv"
      inferwatch model manifest ./my-model
    """


@model.command("manifest")
@click.argument("folder")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def manifest(folder: str, as_json: bool) -> None:
    """List size and SHA-256 of every file of the model in FOLDER/inferwatch-manifest.json.

    Workers check a manifest that is there before they load anything, and refuse a folder that is not as listed. It
    replaces the one that is there: write it where you trust the files.

    \b
    Example:
      inferwatch model manifest ./my-model
    """
    from inference_workers.models.manifest import write_manifest

    found = _find(folder, None)
    try:
        written = write_manifest(found.path)
    except OSError as error:
        raise click.ClickException(f"{found.path}: {error.strerror}") from None
    if as_json:
        shas = {name: one.sha256 for name, one in written.files.items()}
        click.echo(json.dumps({"folder": str(found.path), "digest": found.digest, "files": shas}))
        return
    for name, one in written.files.items():
        click.echo(f"{one.sha256[:16]}...  {one.size:>13,} bytes  {name}")
    click.echo(f"{written.file} lists {len(written.files)} files; digest of the weights: {found.digest}")


@model.command("check")
@click.argument("name", required=False)
@_REVISION
@click.option("--digest", help="SHA-256 that the weights must have, 64 hex digits.")
@click.option("--golden", type=click.Path(path_type=Path), help="File of golden samples. Default: FOLDER/golden.json.")
@click.option("--load/--no-load", default=True, show_default=True, help="Also load it and try its golden samples.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(
    name: str | None, revision: str | None, digest: str | None, golden: Path | None, load: bool, as_json: bool
) -> None:
    """What a worker would make of a model: NAME is a folder, a package or a hub id. Default: the worker's own settings.

    Type, tasks, parameters, digest, manifest, memory by forecast, golden samples, and the verdict. The worker's other
    settings are INFERWATCH_WORKER_* variables, as for `inferwatch worker`. Exit code 1 when it would be refused.

    \b
    Example:
      inferwatch model check ./my-model
      inferwatch model check org/name --revision 0123456789abcdef0123456789abcdef01234567 --json
    """
    from inference_workers.loading.check import check_model
    from inference_workers.loading.preflight import ModelWanted
    from inference_workers.loading.report import lines_of, report_of
    from inference_workers.models.verdicts import Refusal

    given: dict[str, Any] = {"model": name, "revision": revision, "digest": digest, "golden": golden}
    settings = _settings(given) if name is not None else _settings({k: v for k, v in given.items() if v is not None})
    found = check_model(ModelWanted.of_settings(settings), settings, _outside(), load=load)
    report = report_of(found)
    click.echo(json.dumps(report) if as_json else "\n".join(lines_of(report)))
    if found.refusal is not None:
        missing = found.refusal.reason is Refusal.NOT_FOUND
        click.get_current_context().exit(EXIT_CONFIGURATION if missing else EXIT_REFUSED)


@model.command("golden")
@click.argument("name")
@_REVISION
@click.option("--input", "inputs", multiple=True, metavar="TEXT", help="An input; for rerank an item. May be repeated.")
@click.option("--query", help="rerank: what the items are ranked by.")
@click.option(
    "--task", type=click.Choice(["embed", "rerank", "classify", "generate"]), default="embed", show_default=True
)
@click.option(
    "--requests",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of requests, one JSON a line.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Default: FOLDER/golden.json.")
def golden(
    name: str,
    revision: str | None,
    inputs: tuple[str, ...],
    query: str | None,
    task: str,
    requests: Path | None,
    output: Path | None,
) -> None:
    """Record what the model answers now as golden samples: from then on it must answer so before it serves.

    Computed in float32. Look at the answers, or compare them with the library that the model was made with, before you
    trust them: golden samples find changes, not mistakes that were there from the start.

    \b
    Example:
      inferwatch model golden ./my-model --input "red shoes" --input "tv"
      inferwatch model golden ./ranker --task rerank --query shoes --input "red shoes" --input "a tv"
      inferwatch model golden ./my-model --requests requests.jsonl
    """
    from inference_workers.golden import Tolerance, record, write_golden
    from inference_workers.loading.load import load_servable
    from inference_workers.loading.preflight import ModelWanted
    from inference_workers.models.files import GOLDEN_FILE
    from inference_workers.models.verdicts import ModelRefused
    from inference_workers.ports import EngineError
    from inference_workers.tasks.inputs import Refused

    asked = _requests(inputs, query, task, requests)
    # The samples that are there do not bind the model that is recorded anew.
    settings = _settings({"model": name, "revision": revision, "dtype": "float32", "golden_required": False})
    target = output or _find(name, revision).path / GOLDEN_FILE
    try:
        loaded = load_servable(ModelWanted.of_settings(settings), settings, _outside(), try_golden=False)
        recorded = record(loaded.servable, asked, Tolerance())
        write_golden(target, recorded)
    except ModelRefused as refusal:
        raise _exit_of(refusal) from None
    except (Refused, EngineError) as error:
        raise click.ClickException(f"the model cannot answer this: {error}") from None
    except OSError as error:
        raise click.ClickException(f"{target}: {error.strerror}") from None
    click.echo(f"{len(recorded.samples)} golden samples of {recorded.made_with} in {target}")


def _requests(inputs: tuple[str, ...], query: str | None, task: str, file: Path | None) -> list[InferenceRequested]:
    """What is to be asked. Raises UsageError, naming the line, for what is no request."""
    from pydantic import ValidationError

    from schemas.requests import InferenceRequested

    bodies: list[tuple[str, str]] = []
    if task == "rerank" and inputs:
        bodies.append(("--input", json.dumps({"input": list(inputs), "query": query, "task": task})))
    else:
        bodies += [("--input", json.dumps({"input": one, "task": task})) for one in inputs]
    if file is not None:
        lines = file.read_text(encoding="utf-8").splitlines()
        bodies += [(f"{file}, line {number}", line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not 1 <= len(bodies) <= REQUESTS_MAX:
        raise click.UsageError(f"{len(bodies)} requests: name 1 to {REQUESTS_MAX} with --input or --requests")
    found = []
    for where, body in bodies:
        try:
            found.append(InferenceRequested.model_validate_json(body))
        except ValidationError as error:
            raise click.UsageError(f"{where} is no request: {error.errors(include_url=False)[0]['msg']}") from None
    return found


def _find(name: str, revision: str | None) -> ModelFolder:
    from inference_workers.models.registry import find_model
    from inference_workers.models.verdicts import ModelRefused

    try:
        return find_model(name, revision=revision, offline=_settings({}).offline)
    except ModelRefused as refusal:
        raise _exit_of(refusal) from None


def _exit_of(refusal: Any) -> Exception:
    """What ends the command: exit code 78 for a model that is not there, 1 for one that is refused."""
    from inference_workers.models.verdicts import Refusal

    return refusal if refusal.reason is Refusal.NOT_FOUND else click.ClickException(str(refusal))


def _settings(values: dict[str, Any]) -> WorkerSettings:
    from inference_workers.spec import WorkerSettings
    from infra.settings import load

    if values.get("model"):
        values = {"model_name": Path(values["model"]).name[:200] or "model", "version": "1", "digest": None, **values}
        values.setdefault("golden", None)
    return load(WorkerSettings, **values)


def _outside() -> Outside:
    from inference_workers.loading.load import real_outside

    return real_outside()

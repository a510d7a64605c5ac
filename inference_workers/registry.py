"""Finds a model's folder and says what is in it: weights, digest, length limit, pooling. Reads no weights itself."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from inference_workers.spec import refused

TOKENS_FALLBACK = 512
"""Longest input where no file of the model says one."""


class Pooling(StrEnum):
    """How token vectors become one vector."""

    MEAN = "mean_tokens"
    CLS = "cls_token"
    MAX = "max_tokens"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on disk. `tokens_max` counts special tokens too; `digest` is the SHA-256 of the weights."""

    path: Path
    weights: tuple[Path, ...]
    config: Mapping[str, Any]
    tokens_max: int
    pooling: Pooling
    normalise: bool

    @property
    def digest(self) -> str:
        """SHA-256 over the weight files in name order, hexadecimal. Takes about 0.1 s per 100 MB the first time."""
        return _digest(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in self.weights))


def find_model(name: str) -> ModelFolder:
    """The model that a package name or a folder's path means. Raises SettingsError when it cannot be served."""
    path = _folder_of(name)
    weights = tuple(sorted(path.glob("*.safetensors")))
    if not weights:
        others = sorted(one.name for one in path.iterdir() if one.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"))
        why = f"{', '.join(others)} would run code when loaded" if others else "it holds no *.safetensors"
        raise refused("model", name, why, "save the model with `save_pretrained(..., safe_serialization=True)`")
    config = _json(path / "config.json")
    if not isinstance(config, dict) or "model_type" not in config:
        raise refused(
            "model", name, "its config.json is missing or names no model_type", "name a Transformers model folder"
        )
    pooling, normalise = _modules_of(path, name)
    return ModelFolder(path, weights, config, _tokens_max(path, config), pooling, normalise)


def _folder_of(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    if name.isidentifier():
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        for root in (spec.submodule_search_locations or ()) if spec is not None else ():
            if (Path(root) / "model").is_dir():
                return Path(root) / "model"
    raise refused(
        "model",
        name,
        "it is neither a folder nor an installed package with a `model` folder",
        "run `make setup`, which installs the default model; or name an existing folder with config.json, "
        "tokenizer.json and *.safetensors",
    )


def _modules_of(path: Path, name: str) -> tuple[Pooling, bool]:
    """Pooling and normalising as `modules.json` and its folders say; mean without normalising where there is none."""
    modules = _json(path / "modules.json")
    if modules is None:
        return Pooling.MEAN, False
    pooling, normalise = Pooling.MEAN, False
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Pooling":
            chosen = {
                key.removeprefix("pooling_mode_")
                for key, value in (_json(path / module["path"] / "config.json") or {}).items()
                if key.startswith("pooling_mode_") and value is True
            }
            if len(chosen) != 1 or not chosen <= set(Pooling):
                known = ", ".join(Pooling)
                raise refused(
                    "model", name, f"pooling {sorted(chosen)} is not known", f"use a model with one of: {known}"
                )
            pooling = Pooling(chosen.pop())
        elif kind == "Normalize":
            normalise = True
        elif kind != "Transformer":
            raise refused(
                "model", name, f"its module {kind} is not known", "use a model of Transformer, Pooling, Normalize"
            )
    return pooling, normalise


def _tokens_max(path: Path, config: Mapping[str, Any]) -> int:
    said = (_json(path / "sentence_bert_config.json") or {}).get("max_seq_length")
    positions = config.get("max_position_embeddings")
    limits = [int(one) for one in (said, positions) if isinstance(one, int) and one > 0]
    return min(limits, default=TOKENS_FALLBACK)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


@cache
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    total = hashlib.sha256()
    for path, _, _ in files:
        with path.open("rb") as file:
            while chunk := file.read(4 * 1_048_576):
                total.update(chunk)
    return total.hexdigest()

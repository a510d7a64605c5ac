"""What lies in a model's folder and whether it may be touched: weights as data only, no code, nothing from elsewhere.

Looks at names, links and small JSON files. Reads no weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from inference_workers.models.verdicts import ModelRefused, Refusal, refuse

GOLDEN_FILE = "golden.json"
MANIFEST_FILE = "inferwatch-manifest.json"
SUMS_FILE = "SHA256SUMS"
USED_SUFFIXES = frozenset({".safetensors", ".json", ".txt"})
"""Endings of the files that make a model: weights, configuration, tokeniser."""
NOT_THE_MODEL = frozenset({GOLDEN_FILE, MANIFEST_FILE, SUMS_FILE})
"""Files that speak about the model and are no part of it."""
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".h5", ".keras"})
WEIGHTS = "model.safetensors"
INDEX = WEIGHTS + ".index.json"
FILES_MAX = 10_000
"""Most files that a folder may hold: more is not a model's folder but a disk."""
JSON_BYTES_MAX = 64 * 1_048_576
"""Largest configuration or index that is read, bytes. The index of a 1,000-billion-parameter model takes 10 MB."""
OUR_MODULES = "sentence_transformers."
SAVE_IT = "save the model with `save_pretrained(..., safe_serialization=True)`"


def read_json(path: Path, source: str) -> Any:
    """What a JSON file of the model says, None when there is none. Raises ModelRefused for one that is no JSON."""
    try:
        if path.stat().st_size > JSON_BYTES_MAX:
            raise ValueError(f"it is larger than {JSON_BYTES_MAX} bytes")
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise refuse(
            Refusal.LOAD_ERROR, source, f"{path.name} cannot be read: {error}", "copy the model again; or mend the file"
        ) from None


def read_object(path: Path, source: str) -> dict[str, Any]:
    """The same where an object is meant; empty when there is no file."""
    said = read_json(path, source)
    if said is not None and not isinstance(said, dict):
        raise refuse(Refusal.LOAD_ERROR, source, f"{path.name} is no JSON object", "copy the model again; or mend it")
    return said or {}


def used_files(folder: Path) -> dict[str, Path]:
    """The files that make the model, by their name relative to the folder, with `/`, in name order."""
    found = {
        path.relative_to(folder).as_posix(): path
        for path in _entries(folder)
        if path.suffix in USED_SUFFIXES and path.is_file() and path.name not in NOT_THE_MODEL
    }
    return dict(sorted(found.items()))


def refuse_unsafe(folder: Path, source: str) -> None:
    """Raise ModelRefused (unsafe) for a folder with links that lead out of it, or that asks for code to be run."""
    allowed = _allowed_roots(folder)
    for number, path in enumerate(_entries(folder)):
        if number >= FILES_MAX:
            raise _unsafe(source, f"it holds more than {FILES_MAX} files", "name the model's own folder")
        if path.is_symlink() and not any(path.resolve().is_relative_to(root) for root in allowed):
            link = path.relative_to(folder)
            raise _unsafe(source, f"{link} is a link that leads out of the folder", "copy the file into the folder")
    for name, used in used_files(folder).items():
        if name.endswith("config.json") and _says(read_json(used, source), "auto_map"):
            raise _unsafe(
                source,
                f"{name} has auto_map, which runs code that comes with the model",
                "use a model of an architecture that Transformers itself has",
            )
    if (folder / "adapter_config.json").exists():
        raise _unsafe(
            source,
            "adapter_config.json names another model to load beneath it",
            "merge the adapter into its model (`merge_and_unload`) and save that",
        )
    _refuse_foreign_modules(folder, source)


def weights_of(folder: Path, source: str) -> tuple[Path, ...]:
    """The weight files in name order: `model.safetensors`, or the parts that its index names, or the only one there.

    Raises ModelRefused when there are none, when it is not clear which, or when the index names anything else.
    """
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    if (folder / INDEX).is_file():
        return _parts_of(folder, source)
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return (found[0],)
    if found:
        names = ", ".join(path.name for path in found[:5])
        raise refuse(
            Refusal.UNSUPPORTED, source, f"which weights are meant? It holds {names}", f"add {INDEX}; or keep one"
        )
    others = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if others:
        raise _unsafe(source, f"{', '.join(others[:5])} would run code when loaded", SAVE_IT)
    raise refuse(Refusal.NOT_FOUND, source, "it holds no *.safetensors", f"{SAVE_IT}; or name another folder")


def below(folder: Path, name: str, source: str) -> Path:
    """The path of a file or folder that a file of the model names. Raises ModelRefused when it lies elsewhere."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        raise _unsafe(source, f"it names {name!r}, which lies outside its folder", "name files within the folder")
    return folder / pure


def _parts_of(folder: Path, source: str) -> tuple[Path, ...]:
    index = read_json(folder / INDEX, source)
    named = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(named, Mapping) or not named:
        raise refuse(Refusal.LOAD_ERROR, source, f"{INDEX} has no weight_map", SAVE_IT)
    parts = []
    for name in sorted({str(one) for one in named.values()}):
        path = below(folder, name, source)
        if path.suffix != ".safetensors" or path.parent != folder:
            raise _unsafe(source, f"{INDEX} names {name}, which is no *.safetensors beside it", SAVE_IT)
        if not path.is_file():
            raise refuse(
                Refusal.NOT_FOUND, source, f"{INDEX} names {name}, which is not there", "copy or download it again"
            )
        parts.append(path)
    return tuple(parts)


def _refuse_foreign_modules(folder: Path, source: str) -> None:
    modules = read_json(folder / "modules.json", source) or []
    if not isinstance(modules, list) or not all(isinstance(one, dict) for one in modules):
        raise refuse(Refusal.LOAD_ERROR, source, "modules.json is no list of modules", "save the model again")
    for module in modules:
        kind = str(module.get("type", ""))
        if not kind.startswith(OUR_MODULES):
            raise _unsafe(
                source,
                f"its module {kind!r} is code that comes with the model",
                "use a model of sentence_transformers' own modules",
            )
        below(folder, str(module.get("path", "")), source)


def _entries(folder: Path) -> Iterator[Path]:
    """Every file and link in the folder, links not followed, sorted. Hidden folders such as `.git` are left out."""
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if Path(root, name).is_symlink()]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted([*names, *links]):
            yield Path(root, name)


def _says(tree: Any, key: str) -> bool:
    """Whether a JSON object has a key, at any depth."""
    rest = [tree]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            if key in one:
                return True
            rest.extend(one.values())
        elif isinstance(one, list):
            rest.extend(one)
    return False


def _allowed_roots(folder: Path) -> tuple[Path, ...]:
    """Where links may lead: the folder, and the blobs of the hub cache whose snapshot it is."""
    root = folder.resolve()
    blobs = root.parent.parent / "blobs"
    if root.parent.name == "snapshots" and root.parent.parent.name.startswith("models--") and blobs.is_dir():
        return root, blobs
    return (root,)


def _unsafe(source: str, why: str, ways_out: str) -> ModelRefused:
    return refuse(Refusal.UNSAFE, source, why, ways_out)

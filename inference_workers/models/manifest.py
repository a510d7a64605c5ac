"""The manifest of a model's folder: size and SHA-256 of every file that makes the model, written once and checked.

It finds damage, mixed-up copies and changed files. It is not signed: whoever can write the folder can write it, too;
what a deployment trusts is its own `digest`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference_workers.models.file_hashes import sha256_of
from inference_workers.models.files import MANIFEST_FILE, SUMS_FILE, below, read_json, used_files
from inference_workers.models.verdicts import ModelRefused, Refusal, refuse

FORMAT = "inferwatch-manifest/1"
SUM_LINE = re.compile(r"\\?([0-9a-f]{64}) [ *](?:\./)?(.+)")
"""A line of `sha256sum`: the sum, a space, `*` for binary, the name."""
WRITE_ANEW = "copy the model again; or, if the change is meant, write `inferwatch model manifest` again"


@dataclass(frozen=True, slots=True)
class Listed:
    """What a manifest says of one file. `size` is in bytes, None where it is not told."""

    sha256: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest lists, by names relative to the folder, and the file it was read from."""

    file: str
    files: Mapping[str, Listed]


def read_manifest(folder: Path, source: str) -> Manifest | None:
    """The folder's manifest: `inferwatch-manifest.json`, else `SHA256SUMS`, else None. Raises ModelRefused."""
    said = read_json(folder / MANIFEST_FILE, source)
    if said is not None:
        return Manifest(MANIFEST_FILE, _listed_in(said, source))
    try:
        text = (folder / SUMS_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _wrong(source, f"{SUMS_FILE} cannot be read: {error}") from None
    files = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        match = SUM_LINE.fullmatch(line)
        if match is None:
            raise _wrong(source, f"{SUMS_FILE} has a line that is none of sha256sum's: {line[:80]!r}")
        files[match[2]] = Listed(match[1], None)
    return Manifest(SUMS_FILE, files)


def check_manifest(folder: Path, manifest: Manifest, source: str) -> None:
    """Raise ModelRefused, naming the file, unless every file of the model is listed and as listed. Reads them all."""
    used = used_files(folder)
    unlisted = sorted(used.keys() - manifest.files.keys())
    if unlisted:
        raise _wrong(source, f"{unlisted[0]} is not in {manifest.file}")
    for name, listed in sorted(manifest.files.items()):
        path = used.get(name)
        if path is None:
            # A list of sha256sum may speak of more than the model: a read-me, weights in another format.
            if manifest.file == MANIFEST_FILE:
                below(folder, name, source)
                raise _wrong(source, f"{name} is in {manifest.file} and not in the folder")
            continue
        size = path.stat().st_size
        if listed.size is not None and size != listed.size:
            raise _wrong(source, f"{name} has {size} bytes, {manifest.file} says {listed.size}")
        found = sha256_of(path)
        if found != listed.sha256:
            raise _wrong(source, f"{name} has sha256 {found[:12]}..., {manifest.file} says {listed.sha256[:12]}...")


def write_manifest(folder: Path) -> Manifest:
    """List every file of the model in `inferwatch-manifest.json`, replacing the one that is there. Raises OSError."""
    files = {name: Listed(sha256_of(path), path.stat().st_size) for name, path in used_files(folder).items()}
    listed = {name: {"sha256": one.sha256, "bytes": one.size} for name, one in files.items()}
    text = json.dumps({"format": FORMAT, "files": listed}, indent=1, ensure_ascii=False)
    (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
    return Manifest(MANIFEST_FILE, files)


def _listed_in(said: Any, source: str) -> dict[str, Listed]:
    if not isinstance(said, dict) or said.get("format") != FORMAT or not isinstance(said.get("files"), dict):
        raise _wrong(source, f"{MANIFEST_FILE} is none of format {FORMAT}")
    files = {}
    for name, one in said["files"].items():
        sha256, size = (one.get("sha256"), one.get("bytes")) if isinstance(one, dict) else (None, None)
        if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", sha256) or type(size) is not int:
            raise _wrong(source, f"{MANIFEST_FILE} says nothing usable of {str(name)[:80]!r}")
        files[name] = Listed(sha256, size)
    return files


def _wrong(source: str, why: str) -> ModelRefused:
    return refuse(Refusal.MANIFEST, source, why, WRITE_ANEW)

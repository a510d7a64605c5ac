"""What a set-up need not find room for: what removing the old environment frees, and what the cache holds already.

Standard library only, and nothing that Python 3.7 cannot read: asked before anything is installed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

BLOCK_BYTES = 512  # of st_blocks, on every system


def nearest_existing(folder: Path) -> Path:
    """Return the folder itself, or its nearest parent that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def pinned_versions(lock: str) -> dict[str, str]:
    """Return the version of each package that a lock pins."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\\n]+)", lock, re.MULTILINE))


def freed_bytes(venv: Path) -> int:
    """Return what the disk gains when an environment is removed: files that are linked nowhere else."""
    return sum(status.st_blocks * BLOCK_BYTES for status in _files(venv) if status.st_nlink == 1)


def cached_bytes(cache: Path, versions: Mapping[str, str]) -> int:
    """Return what uv's cache holds of these packages, unpacked: neither downloaded nor stored again.

    uv keeps `wheels-vN/INDEX/NAME/VERSION-TAGS` as a link to the unpacked wheel. Should that change, nothing is
    found, and room for all is asked for.
    """
    held = {}
    for wheels in cache.glob("wheels-v*"):
        for folder, folders, names in os.walk(str(wheels)):
            version = versions.get(os.path.basename(folder))
            for name in folders + names:
                path = Path(folder, name)
                if version and name.startswith(version + "-") and path.is_symlink() and path.is_dir():
                    held.update({(status.st_dev, status.st_ino): status.st_blocks for status in _files(path)})
    return sum(held.values()) * BLOCK_BYTES


def _files(folder: Path) -> Iterator[os.stat_result]:
    """The status of every file below a folder; one that goes meanwhile is left out."""
    for below, _, names in os.walk(str(folder)):
        for name in names:
            try:
                yield os.lstat(os.path.join(below, name))
            except OSError:
                continue

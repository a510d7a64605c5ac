"""What else does the work on this machine: each in an environment of its own in the cache folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.worker_process import failed
from infra.embedded.kafka_runtime import cache_folder

INSTALL_SECONDS_MAX = 1_800.0
INSTALL_BYTES = 8_000_000_000
"""torch with CUDA; next to nothing where uv's cache has it and lies on the same disk."""
DONE = "installed.txt"


@dataclass(frozen=True, slots=True)
class Peer:
    """A library to compare with: what to install beside our own version of `same`, and the script, below this folder,
    that runs in its environment."""

    name: str
    packages: tuple[str, ...]
    script: str
    same: tuple[str, ...] = ("torch",)
    """Packages of which it gets our versions, so that only the peer differs."""
    bytes_needed: int = INSTALL_BYTES


PEERS = (
    Peer(
        "sentence-transformers",
        ("sentence-transformers==6.2.0", f"transformers=={version('transformers')}"),
        "peer_sentence_transformers.py",
    ),
    Peer("infinity-emb", ("infinity-emb[torch]==0.0.78", "transformers==4.57.6"), "peer_infinity.py"),
)


def packages_of(peer: Peer) -> tuple[str, ...]:
    """All that is asked of its environment."""
    return (*peer.packages, *(f"{name}=={version(name)}" for name in peer.same))


def environment_folder(peer: Peer, cache: Path) -> Path:
    """Where it is kept: another folder for other versions, ours of Python included."""
    asked = " ".join((*packages_of(peer), sys.version))
    return cache / "bench" / f"{peer.name}-{sha256(asked.encode()).hexdigest()[:12]}"


def command_of(peer: Peer, say: Callable[[str], None], cache: Path | None = None) -> list[str]:
    """How to run it, installed when it is not yet. Raises ClickException in words when it cannot be."""
    folder = environment_folder(peer, cache or cache_folder())
    python = folder / "bin" / "python"
    if not (folder / DONE).is_file():
        say(f"{peer.name}: installing {', '.join(packages_of(peer))} into {folder}")
        _install(peer, folder, python)
        (folder / DONE).write_text("\n".join(packages_of(peer)) + "\n")
    return [str(python), str(Path(__file__).parent / peer.script)]


def _install(peer: Peer, folder: Path, python: Path) -> None:
    uv = _uv()
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = psutil.disk_usage(str(folder.parent)).free
    if free < peer.bytes_needed:
        raise failed(
            f"{folder.parent} has {free / 1e9:.1f} GB free, and {peer.name} needs {peer.bytes_needed / 1e9:.1f} GB"
        )
    for arguments in (
        ("venv", "--quiet", "--clear", "--python", sys.executable, str(folder)),
        ("pip", "install", "--quiet", "--python", str(python), *packages_of(peer)),
    ):
        try:
            done = subprocess.run(
                [uv, *arguments], capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX, check=False
            )
        except subprocess.TimeoutExpired:
            raise failed(f"{peer.name}: not installed after {INSTALL_SECONDS_MAX:.0f} s") from None
        if done.returncode:
            raise failed(f"{peer.name} cannot be installed: {done.stderr.strip()[-1_000:]}")


def _uv() -> str:
    """uv of this environment, or one on the path: pip's resolver takes minutes for these packages."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        raise failed("uv is not installed here (`make setup` does): peers get environments of their own from it")
    return found

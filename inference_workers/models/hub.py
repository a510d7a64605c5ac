"""The door to huggingface_hub: a model's files at one pinned commit, from cache or hub. Never code, never pickles."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from inference_workers.models.files import MANIFEST_FILE, SUMS_FILE
from inference_workers.models.verdicts import ModelRefused, Refusal, refuse

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.\-]{0,95}/[A-Za-z0-9][\w.\-]{0,95}")
"""A hub id, `org/name`."""
COMMIT = re.compile(r"[0-9a-f]{40}")
FETCHED = ["*.safetensors", "*.json", "*.txt", MANIFEST_FILE, SUMS_FILE]
"""What is fetched of a repository. `*` crosses folders here, so that the modules' configurations come along."""
NEVER_FETCHED = ["*.bin", "*.py", "*.pkl", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.onnx", "onnx/*", "openvino/*"]
PIN_IT = (
    "set INFERWATCH_WORKER_REVISION (or the arm's revision) to the 40 hex digits of a commit; or name a local folder"
)


def fetch(repository: str, revision: str | None, *, offline: bool) -> Path:
    """The folder of a hub model's snapshot. Blocks while it is fetched; what is in the cache is not fetched again.

    The cache is huggingface_hub's own (`HF_HOME`), the hub `HF_ENDPOINT`. `offline`, or `HF_HUB_OFFLINE=1`, uses what
    is in the cache alone. Raises ModelRefused when the commit is not named or cannot be had.
    """
    if revision is None or not COMMIT.fullmatch(revision):
        why = "a hub id without a pinned commit may be another model tomorrow"
        raise refuse(Refusal.NOT_FOUND, repository, why, PIN_IT)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    named = f"{repository}@{revision[:12]}"
    try:
        found = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=FETCHED,
            ignore_patterns=NEVER_FETCHED,
            local_files_only=offline,
        )
    except GatedRepoError:
        raise _missing(named, "the hub gives it to some accounts only", "set HF_TOKEN to a token that may") from None
    except RepositoryNotFoundError:
        raise _missing(
            named, "the hub has no such model, or hides it", "correct the id; or set HF_TOKEN to a token that may"
        ) from None
    except RevisionNotFoundError:
        raise _missing(named, "the model has no such commit", "correct the revision") from None
    except LocalEntryNotFoundError as error:
        raise _missing(named, *_why_not_here(offline, error)) from None
    except Exception as error:  # the client's, httpx's, the disk's: whatever it is, the model is not here
        why = f"it could not be fetched ({type(error).__name__}: {str(error)[:300]})"
        raise _missing(named, why, "try again; or copy the model to a folder and name that") from None
    folder = Path(found)
    if folder.name != revision:
        raise refuse(Refusal.UNSAFE, named, f"the hub answered with commit {folder.name}", "ask a hub you trust")
    return folder


def _why_not_here(offline: bool, error: Exception) -> tuple[str, str]:
    """Why the cache had to do and did not, and the ways out."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if offline or HF_HUB_OFFLINE:
        return (
            "it is not in the local cache, and fetching is switched off",
            "set INFERWATCH_WORKER_OFFLINE=false and unset HF_HUB_OFFLINE; or copy the model to a folder and name that",
        )
    cause = error.__cause__
    said = f" ({type(cause).__name__}: {str(cause)[:200]})" if cause is not None else ""
    return (
        f"the hub cannot be reached{said} and the model is not in the local cache",
        "check the network and HF_ENDPOINT and try again; or copy the model to a folder and name that",
    )


def _missing(named: str, why: str, ways_out: str) -> ModelRefused:
    return refuse(Refusal.NOT_FOUND, named, why, ways_out)

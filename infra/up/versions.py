"""Which versions of what a run used."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "inferwatch",
    "confluent-kafka",
    "faust-streaming",
    "river",
    "torch",
    "transformers",
    "clickhouse-connect",
    "chdb",
)


def versions() -> dict[str, str]:
    """Versions by name: Python and the packages that matter; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

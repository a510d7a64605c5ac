"""What a figure was measured on: processor, its instructions, memory, versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

TELLING_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")
"""Instructions that decide how fast a model is computed."""
PACKAGES = ("torch", "transformers", "tokenizers", "confluent-kafka")


def machine_facts() -> dict[str, Any]:
    """Of this machine, as JSON."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        cpuinfo = ""
    return {
        "cpu": cpu_name(cpuinfo) or platform.processor() or platform.machine(),
        "cpu_flags": cpu_flags(cpuinfo),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{package.replace("-", "_"): _version(package) for package in PACKAGES},
    }


def cpu_name(cpuinfo: str) -> str:
    """The first processor's name in the text of /proc/cpuinfo; empty without one."""
    names = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    return names[0] if names else ""


def cpu_flags(cpuinfo: str) -> list[str]:
    """Those of the telling instructions that the text of /proc/cpuinfo names."""
    for line in cpuinfo.splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            there = set(flags.split())
            return [flag for flag in TELLING_FLAGS if flag in there]
    return []


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

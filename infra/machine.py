"""What a machine must be to run the project: platform, C library, Python, room on the disk.

Pure verdicts with the reason in words; asked by the set-up before anything is installed
and by `inferwatch doctor`. Standard library only, and nothing that Python 3.7 cannot read.
"""

from __future__ import annotations

import re

PYTHON_OLDEST = (3, 11)
PYTHON_NEWEST = (3, 14)
GLIBC_OLDEST = (2, 28)  # confluent-kafka and torch: manylinux_2_28
MACOS_OLDEST = (14, 0)  # torch: macosx_14_0_arm64
GB = 1_000_000_000
# Measured: 7.1 GB on Linux, where torch brings CUDA's libraries; without them about 2 GB.
INSTALL_BYTES = {"Linux": 7_500_000_000, "Darwin": 2_000_000_000}
DOWNLOAD_GB = {"Linux": "3.5", "Darwin": "1"}


def version_tuple(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: `14.2.1` -> (14, 2, 1), and () for text without any."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def platform_problem(system: str, machine: str, libc: tuple[str, str], macos: str) -> str | None:
    """Return why this platform cannot run the project, or None when it can.

    `libc` is what `platform.libc_ver()` says, `macos` the release of macOS. Each reason names a package
    that has no wheel for the platform, so that nothing is downloaded for hours only to fail.
    """
    if system == "Linux" and machine in ("x86_64", "amd64"):
        if libc[0] != "glibc":
            return "this Linux has no glibc (Alpine?), and aiokafka and confluent-kafka have no wheel for it"
        if version_tuple(libc[1]) < GLIBC_OLDEST:
            return f"glibc {libc[1]} is older than 2.28, and confluent-kafka and torch have no wheel for it"
        return None
    if system == "Linux":
        return f"faust-streaming has no wheel for Linux on {machine}"
    if system == "Darwin" and machine == "arm64":
        if version_tuple(macos) < MACOS_OLDEST:
            return f"macOS {macos} is older than 14, and torch has no wheel for it"
        return None
    if system == "Darwin":
        return "torch and llvmlite have no wheels for Macs with Intel processors"
    if system == "Windows":
        return "chdb has no wheel for Windows"
    return f"there are no wheels for {system} on {machine}"


def disk_problem(free_bytes: int, needed_bytes: int, folder: str, purpose: str) -> str | None:
    """Return what is wrong with the free space in `folder`, or None when there is enough."""
    if free_bytes >= needed_bytes:
        return None
    return (
        f"{folder} has {free_bytes / GB:.1f} GB free, and {purpose} needs {needed_bytes / GB:.1f} GB. "
        "Free some space, or keep downloads on another disk with UV_CACHE_DIR=/path make setup"
    )


def python_suits(version: tuple[int, ...]) -> bool:
    """Return whether a Python of this version can run the project."""
    return PYTHON_OLDEST <= version[:2] <= PYTHON_NEWEST

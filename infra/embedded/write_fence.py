"""Forbids this process to write outside one folder and to start programs, where the kernel can: Linux with Landlock.

See landlock(7). Reading is free: Python reads modules as it goes.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

# The same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PR_SET_NO_NEW_PRIVS = 38
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _TRUNCATE = 1 << 0, 1 << 1, 1 << 14
# Removing and making entries of every kind (bits 4 to 12), and moving them between folders (13).
_ENTRIES = sum(1 << bit for bit in range(4, 14))
# Version 1 forbids all moves between folders, and the engine moves its own.
_VERSION_MIN, _VERSION_OF_TRUNCATE = 2, 3


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def fence_writes(folder: Path) -> bool:
    """From now on, this thread and those it starts write only beneath `folder` and to open files. False: not here.

    Call it before other threads are started; it cannot be undone.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)
    if version < _VERSION_MIN:
        return False
    write = _WRITE_FILE | _ENTRIES | (_TRUNCATE if version >= _VERSION_OF_TRUNCATE else 0)
    handled = ctypes.c_uint64(write | _EXECUTE)
    rules = libc.syscall(_CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(8), 0)
    if rules < 0:
        return False
    try:
        for path, access in ((folder, write), (Path(os.devnull), _WRITE_FILE)):
            beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = _PathBeneath(access, beneath)
                if libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, ctypes.byref(rule), 0) != 0:
                    return False
            finally:
                os.close(beneath)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return bool(libc.syscall(_RESTRICT_SELF, rules, 0) == 0)
    finally:
        os.close(rules)

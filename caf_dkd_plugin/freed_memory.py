"""Training on a CPU keeps the memory that a step has freed for the next one."""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""of glibc's malloc.h"""
ENVIRONMENT = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")
"""by which users say themselves how memory is allocated"""


def keep_freed_memory() -> bool:
    """Ask glibc not to give freed memory back to the system; whether it will.

    A step's big tensors, such as logits (B, T, V), are each mapped when they are made and unmapped when
    they are freed, so that every step touches all its pages for the first time: a fifth of the time of
    a step on a CPU. Where there is no glibc, or the user has settings of malloc, nothing is done.
    """
    if any(name in os.environ for name in ENVIRONMENT):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))

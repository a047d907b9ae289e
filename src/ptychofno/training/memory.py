"""Freed memory stays with the process, for the next step."""

from __future__ import annotations

import ctypes
import platform

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Ask malloc not to hand freed blocks back to the system; they serve later ones until the process ends.

    Every step allocates the same activations. What glibc hands back in between comes anew page by page,
    zeroed by the kernel: 4 to 15 % of a training step on a CPU (experiments/bench). The most that a
    process holds at a time stays the same. Elsewhere than with glibc it does nothing. It holds for the whole
    process, so that the command calls it, and not ``fit``.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_TRIM_THRESHOLD, -1)  # never
    mallopt(_MMAP_THRESHOLD, 2**25)
    mallopt(_MMAP_THRESHOLD, 2**30)  # refused, without effect, by a glibc before 2.35

"""How a process computes: the same bits for the same seed, precise products, and memory that it keeps."""

from __future__ import annotations

import ctypes
import math
import platform
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3

SLACK = 8.0
"""Sums in another order are off by a small factor; bfloat16 is off by a factor of some 10,000."""

_SHAPES = ((1, 256, 256, 256), (1, 24, 64, 4096), (16, 32, 128, 128))
"""Batch, rows, sum, columns: a square product, a transform and a mixing of channels, as in networks."""


@contextmanager
def reproducible(seed: int, num_threads: int | None, matmul_precision: str = "highest") -> Iterator[None]:
    """Seed every generator and ask torch for deterministic kernels; restore all of it at the end.

    The last bits of a sum depend on ``num_threads`` of torch on the CPU; None leaves them.
    """
    cudnn, memory = torch.backends.cudnn, torch.utils.deterministic
    with torch.random.fork_rng(range(torch.cuda.device_count())), ExitStack() as at_the_end:
        restore = at_the_end.callback
        restore(random.setstate, random.getstate())
        restore(np.random.set_state, np.random.get_state())
        restore(torch.set_num_threads, torch.get_num_threads())
        restore(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        restore(torch.set_deterministic_debug_mode, torch.get_deterministic_debug_mode())
        restore(setattr, cudnn, "benchmark", cudnn.benchmark)
        restore(setattr, memory, "fill_uninitialized_memory", memory.fill_uninitialized_memory)  # type: ignore[attr-defined]
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        # Warn only: a few CUDA kernels have no deterministic form. The other way to say it loads a compiler.
        torch.set_deterministic_debug_mode("warn")
        cudnn.benchmark = False
        # A debugging aid that costs time: nothing here reads what it has not written.
        memory.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.set_float32_matmul_precision(matmul_precision)
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        yield


def precise_matmul_setting(device: torch.device) -> str:
    """``medium`` for ``torch.set_float32_matmul_precision`` where that is as precise, else ``highest``.

    On x86 CPUs ``medium`` moves products from MKL to oneDNN, which is up to twice as fast on AMD's. It
    permits bfloat16, but only processors with bfloat16 tiles (AMX) make use of that: so it is tried, on
    three small products. On a GPU it would be bfloat16 or TF32, and the answer is ``highest``.
    """
    if device.type != "cpu":
        return "highest"
    before, errors = torch.get_float32_matmul_precision(), []
    try:
        for setting in ("highest", "medium"):
            torch.set_float32_matmul_precision(setting)
            errors.append([_error(*shape) for shape in _SHAPES])
    finally:
        torch.set_float32_matmul_precision(before)
    exact, loose = errors
    return "medium" if all(b <= SLACK * a for a, b in zip(exact, loose, strict=True)) else "highest"


def _error(batch: int, rows: int, inner: int, columns: int) -> float:
    """The largest of a product of numbers in [-1, 1] with all their bits in use, from no random generator."""
    left, right = (
        torch.sin(torch.arange(1, 1 + math.prod(shape), dtype=torch.float64).square()).float().view(shape)
        for shape in ((batch, rows, inner), (batch, inner, columns))
    )
    return float((torch.bmm(left, right) - torch.bmm(left.double(), right.double())).abs().max())


def keep_freed_memory() -> None:
    """Ask malloc not to hand freed blocks back to the system, until the process ends.

    Every step allocates the same activations. What glibc hands back in between comes anew page by page,
    zeroed by the kernel: 4 to 15 % of a training step on a CPU (experiments/bench). The most that a
    process holds at a time stays the same. Elsewhere than with glibc it does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_TRIM_THRESHOLD, -1)  # never
    mallopt(_MMAP_THRESHOLD, 2**25)
    mallopt(_MMAP_THRESHOLD, 2**30)  # refused, without effect, by a glibc before 2.35

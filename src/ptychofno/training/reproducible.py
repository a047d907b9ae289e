"""The same bits for the same seed, whatever ran before in this process, and nothing left behind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def reproducible(seed: int, num_threads: int | None, matmul_precision: str = "highest") -> Iterator[None]:
    """Seed every generator and ask torch for deterministic kernels; restore all of it at the end.

    Args:
        matmul_precision: see ``torch.set_float32_matmul_precision``.
        num_threads: of torch on the CPU; the last bits of a sum depend on it. None leaves it.
    """
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    threads = torch.get_num_threads()
    precision = torch.get_float32_matmul_precision()
    deterministic = torch.get_deterministic_debug_mode()
    benchmark = torch.backends.cudnn.benchmark
    memory = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory  # type: ignore[attr-defined]
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        # Warn only: a few CUDA kernels have no deterministic form. The other way to say it loads a compiler.
        torch.set_deterministic_debug_mode("warn")
        torch.backends.cudnn.benchmark = False
        # A debugging aid that costs time: nothing here reads what it has not written.
        memory.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.set_float32_matmul_precision(matmul_precision)
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.set_deterministic_debug_mode(deterministic)
        torch.backends.cudnn.benchmark = benchmark
        memory.fill_uninitialized_memory = fill  # type: ignore[attr-defined]

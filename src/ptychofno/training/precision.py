"""Whether a faster way to multiply float32 matrices keeps their precision on this machine."""

from __future__ import annotations

import torch
from torch import Tensor

SLACK = 8.0
"""Sums in another order are off by a small factor; bfloat16 is off by a factor of some 10,000."""

_SHAPES = ((1, 256, 256, 256), (1, 24, 64, 4096), (16, 32, 128, 128))
"""Batch, rows, sum, columns: a square product, a transform and a mixing of channels, as in networks."""


def precise_matmul_setting(device: torch.device) -> str:
    """``medium`` for ``torch.set_float32_matmul_precision`` where that is as precise, else ``highest``.

    On x86 CPUs ``medium`` moves products from MKL to oneDNN, which is up to twice as fast on AMD's. It
    permits bfloat16, but only processors with bfloat16 tiles (AMX) make use of that: so it is tried, on
    three small products. On a GPU it would be bfloat16 or TF32, and the answer is ``highest``.
    """
    if device.type != "cpu":
        return "highest"
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")
        exact = _errors()
        torch.set_float32_matmul_precision("medium")
        loose = _errors()
    finally:
        torch.set_float32_matmul_precision(before)
    return "medium" if all(b <= SLACK * a for a, b in zip(exact, loose, strict=True)) else "highest"


def _errors() -> list[float]:
    """The largest error of each product."""
    errors = []
    for batch, rows, inner, columns in _SHAPES:
        left, right = _numbers(batch, rows, inner), _numbers(batch, inner, columns)
        errors.append(float((torch.bmm(left, right) - torch.bmm(left.double(), right.double())).abs().max()))
    return errors


def _numbers(*shape: int) -> Tensor:
    """Numbers in [-1, 1] with all their bits in use, from no random generator."""
    count = torch.arange(1, 1 + torch.Size(shape).numel(), device="cpu", dtype=torch.float64)
    return torch.sin(count * count).float().view(shape)

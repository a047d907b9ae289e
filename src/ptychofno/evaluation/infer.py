"""Object patches from diffraction patterns, and how well each explains its own.

Shapes: n samples, B batch, C channels, N pattern and patch size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ptychofno.data.dataset import Array, PtychoDataset, Split
from ptychofno.physics import complex_patches, diffraction_amplitude, light_of

PATCHES_AT_ONCE = 256
_CELL = 0.64
"""Side of a square of the object, in widths of the probe, of which one pattern is enough to begin with."""


@dataclass(frozen=True)
class Predicted:
    """What a network makes of the samples of a ``scan()``, or of some."""

    patches: Tensor
    """complex64 (m, C, N, N), on the CPU."""
    members: Array
    """Which samples they are of, int64 (m,), in rising order."""
    samples: Split
    """These samples."""


def predict(
    model: nn.Module, dataset: PtychoDataset, *, batch_size: int, device: torch.device | str, sparse: bool
) -> Predicted:
    """The patches of a dataset's ``scan()``; raises as ``predict_patches`` does.

    Args:
        sparse: only of as many patterns as cover the object several times, see ``spread_out``.
    """
    scan = dataset.scan()
    members = np.arange(len(scan.object_index))
    if sparse and scan.amplitude.shape[1] == 1:
        members = spread_out(scan.positions_px[:, 0], scan.object_index, dataset.probe)
        scan = Split(scan.amplitude[members], scan.positions_px[members], scan.object_index[members])
    patches = predict_patches(
        model, scan.amplitude, batch_size=batch_size, device=device, positions_px=scan.positions_px
    )
    return Predicted(patches, members, scan)


def spread_out(positions_px: Array, object_index: Array, probe: Array) -> Array:
    """Indices of the first pattern in every square of 0.64 widths of the probe, of every object.

    Rounds of overlap, which see all patterns, come to nearly the same from these as from all
    (experiments/seconds). The width is the root of the area (sum |P|^2)^2 / sum |P|^4.

    Args:
        positions_px: (n, 2). object_index: (n,). probe: complex (N, N) or modes (M, N, N).
    """
    light = light_of(torch.tensor(np.asarray(probe)))
    width = float((light.sum() ** 2 / light.square().sum()).sqrt())
    squares = np.floor(np.asarray(positions_px) / (_CELL * width))
    cells = np.column_stack((object_index, squares))
    return np.sort(np.unique(cells, axis=0, return_index=True)[1])


def predict_patches(
    model: nn.Module,
    amplitude: Any,
    *,
    batch_size: int,
    device: torch.device | str = "cpu",
    positions_px: Any = None,
) -> Tensor:
    """What ``model`` predicts for measured amplitudes, complex64 (n, C, N, N), on the CPU.

    The model is moved to ``device`` and stays there; it runs in evaluation mode and leaves with
    every module in the mode in which it came.

    Args:
        model: float32 (B, C, N, N) to float32 (B, N, N, C, 2), real and imaginary parts.
        amplitude: (n, C, N, N), an array, which may be a read-only memory map, or a tensor.
        batch_size: patterns per forward pass.
        device: where to compute.
        positions_px: (n, C, 2), given to the model where C > 1; None keeps the patches of a sample apart.

    Raises:
        ValueError: for amplitudes or predictions of another shape, or a prediction that is not
            finite.
    """
    if amplitude.ndim != 4:
        raise ValueError(f"amplitudes must be (n, C, N, N), not {tuple(amplitude.shape)}")
    n, channels, size, _ = amplitude.shape
    patches = torch.empty((n, channels, size, size), dtype=torch.complex64)
    training = {module: module.training for module in model.modules()}
    model.to(device).eval()
    try:
        with torch.inference_mode():
            for start in range(0, n, batch_size):
                batch = _as_float32(amplitude[start : start + batch_size]).to(device)
                where: tuple[Tensor, ...] = ()
                if positions_px is not None and channels > 1:
                    where = (torch.tensor(positions_px[start : start + batch_size], device=device),)
                parts = model(batch, *where)
                expected = (len(batch), size, size, channels, 2)
                if parts.shape != expected:
                    raise ValueError(f"the model must return {expected}, not {tuple(parts.shape)}")
                patches[start : start + len(batch)] = complex_patches(parts).cpu()
    finally:
        for module, mode in training.items():
            module.training = mode
    broken = int((~torch.isfinite(torch.view_as_real(patches))).flatten(1).any(dim=1).sum())
    if broken:
        raise ValueError(f"the model's prediction is not finite for {broken} of {n} patterns")
    return patches


def patch_errors(predicted: Predicted | None, dataset: PtychoDataset) -> dict[str, float | None]:
    """sum |A_pred - X| / sum X, each pattern as its own patch explains it; null without patches.

    Args:
        predicted: from ``dataset.scan()``.
    """
    names = ("diffraction_error_train", "diffraction_error_validation", "diffraction_error")
    errors: dict[str, float | None] = dict.fromkeys(names)
    if predicted is None:
        return errors
    patches = predicted.patches
    probe = torch.from_numpy(np.array(dataset.probe, dtype=np.complex64))
    # Of each sample, (m,).
    misfit, total = np.empty(len(patches)), np.empty(len(patches))
    for start in range(0, len(patches), PATCHES_AT_ONCE):
        chunk = slice(start, start + PATCHES_AT_ONCE)
        explained = diffraction_amplitude(patches[chunk], probe).numpy()
        if dataset.valid is not None:
            explained = explained * dataset.valid
        measured = np.asarray(predicted.samples.amplitude[chunk])
        misfit[chunk] = np.abs(explained - measured).sum(axis=(1, 2, 3), dtype=np.float64)
        total[chunk] = measured.sum(axis=(1, 2, 3), dtype=np.float64)
    if dataset.test_objects is not None:
        return errors | {"diffraction_error": float(misfit.sum() / total.sum())}
    # scan() is the three splits in this order, so their errors are cut from one pass.
    sizes = np.cumsum([len(split.amplitude) for split in (dataset.train, dataset.validation)])
    ends = np.searchsorted(predicted.members, sizes)
    parts = zip(names, np.split(misfit, ends), np.split(total, ends), strict=True)
    return {name: float(part.sum() / whole.sum()) if len(part) else None for name, part, whole in parts}


def _as_float32(batch: Any) -> Tensor:
    if isinstance(batch, Tensor):
        return batch.to(torch.float32)
    # A copy: torch warns about tensors that share a read-only map.
    return torch.from_numpy(np.array(batch, dtype=np.float32))

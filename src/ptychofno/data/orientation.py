"""Whether a scan's axes stand as its patterns want them, found out before anything is trained on it."""

from __future__ import annotations

import numpy as np
import torch

from ptychofno import physics
from ptychofno.data.dataset import Split
from ptychofno.data.sampling import fitted, resampled

_SETTINGS = ("swap_axes", "negate_rows", "negate_cols")
_SIDE_PX = 64
_PATTERNS, _ROUNDS = 36, 5


def orientation_note(train: Split, probe: np.ndarray, valid: np.ndarray | None) -> str | None:
    """The settings of the layout with which a few rounds explain the patterns clearly better; None for none.

    At low resolution: of large patterns only the middle is looked at.

    Args: ``probe`` complex64 (N, N) or (M, N, N) before any refinement, ``valid`` (N, N).
    """
    N = probe.shape[-1]
    side = min(N, _SIDE_PX)
    amplitude = fitted(train.amplitude[:, 0], side)
    mask = None if valid is None else torch.from_numpy(fitted(valid[None], side)[0].copy())
    found = physics.orientation_that_fits(
        torch.from_numpy(amplitude.copy()),
        torch.from_numpy(train.positions_px[:, 0] * (side / N)),
        torch.from_numpy(resampled(probe, side)),
        mask,
        patterns=_PATTERNS,
        rounds=_ROUNDS,
    )
    wanted = [f"data.layout.{name}=true" for name, change in zip(_SETTINGS, found, strict=True) if change]
    return f"the patterns fit one another clearly better with {' '.join(wanted)}" if wanted else None

"""Small synthetic scans with a known object, probe and patches."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ptychofno.physics import diffraction_amplitude, extract_patches

N, SIZE = 16, 56


def make_object(seed: int = 0, size: int = SIZE, smoothness: float = 2.0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    amplitude, phase = (gaussian_filter(rng.normal(size=(size, size)), smoothness) for _ in range(2))
    field = (1 + 0.2 * amplitude / amplitude.std()) * np.exp(0.5j * phase / phase.std())
    return torch.from_numpy(field.astype(np.complex64))


def make_probe(size: int = N) -> torch.Tensor:
    offset = torch.arange(size) - (size - 1) / 2
    square = offset[:, None] ** 2 + offset[None, :] ** 2
    return torch.polar(torch.exp(-square / (0.5 * size**2 / 4)), 0.03 * square).to(torch.complex64)


def random_phases(count: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-np.pi, np.pi, count)


def turned(patches: torch.Tensor, phases: np.ndarray) -> torch.Tensor:
    turns = torch.from_numpy(np.exp(1j * phases).astype(np.complex64))
    return patches * turns.reshape(-1, *[1] * (patches.ndim - 1))


def up_to_phase(field: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """``field`` with the global phase that brings it closest to ``reference``."""
    return field * np.exp(1j * np.angle(np.vdot(field, reference)))


@pytest.fixture
def scan():
    """A raster over one object: object, probe, integer positions and the true patches."""
    step = 4
    axis = torch.arange(0, SIZE - N + 1, step, dtype=torch.float64)
    positions = torch.cartesian_prod(axis, axis)
    obj, probe = make_object(), make_probe()
    patches = extract_patches(obj, positions, N)
    return SimpleNamespace(
        object=obj,
        probe=probe,
        positions=positions,
        patches=patches,
        amplitude=diffraction_amplitude(patches, probe).numpy(),
        step=step,
        shape=(SIZE, SIZE),
    )


@pytest.fixture
def make():
    """The builders above, for tests that need other sizes."""
    return SimpleNamespace(
        object=make_object, probe=make_probe, phases=random_phases, turned=turned, up_to_phase=up_to_phase
    )

"""A small scan that every layer's tests can share."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from matplotlib.figure import Figure
from torch import Tensor

from ptychofno import physics
from ptychofno.config import composition

_PIXEL = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)

# No example has a time limit: a busy machine is no bug.
settings.register_profile("ptychofno", deadline=None)
settings.load_profile("ptychofno")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Networks this small only wait for a second thread."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _empty_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than training; it is tested where a test is marked so, and by whole commands."""

    def save(figure: Figure, path: Any, *, format: str, **how: Any) -> None:
        Path(path).write_bytes(_PIXEL) if format == "png" else path.write("<svg/>")

    if "draws" not in request.keywords:
        monkeypatch.setattr(Figure, "savefig", save)


@pytest.fixture(scope="session", autouse=True)
def composed_once() -> Iterator[None]:
    """Hydra takes a fifth of a second; the same choices of our own files are composed by one test for all."""
    really = composition._of_choices
    ours = cache(lambda chosen: really(None, chosen))

    def of_choices(config_dir: str | None, chosen: tuple[str, ...]) -> Any:
        return ours(chosen) if config_dir is None else really(config_dir, chosen)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composition, "_of_choices", of_choices)
        yield


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One working directory for the tests of a module, so that they share its cached dataset."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def _in_workplace(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)


@pytest.fixture(scope="session")
def scan() -> dict[str, Tensor]:
    """A smooth random object (64, 64), a curved Gaussian probe (16, 16) and noiseless amplitudes."""
    generator = torch.Generator().manual_seed(0)
    frequency = torch.fft.fftfreq(64)
    low_pass = torch.exp(-300 * (frequency[:, None] ** 2 + frequency**2))
    noise = torch.randn(2, 64, 64, generator=generator)
    smooth = torch.fft.ifft2(torch.fft.fft2(noise) * low_pass).real
    smooth = smooth / smooth.std(dim=(1, 2), keepdim=True)
    obj = ((1 + 0.2 * smooth[0]) * torch.exp(0.5j * smooth[1])).to(torch.complex64)
    axis = torch.arange(16.0) - 8
    square = axis[:, None] ** 2 + axis**2
    probe = (torch.exp(-square / 15) * torch.exp(1j * square / 20)).to(torch.complex64)
    positions = physics.raster_positions(64, 16, 6)
    patches = physics.extract_patches(obj, positions, 16)[:, None]
    amplitude = physics.diffraction_amplitude(patches, probe)
    return {
        "object": obj,
        "probe": probe,
        "positions_px": positions,
        "patches": patches,
        "amplitude": amplitude,
    }

"""Reconstructions as other programs read them, read back by the keys that those document."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from ptychofno.data.readers import open_scan
from ptychofno.evaluation.export import FORMATS, Reconstructed, check_formats

PIXEL_M = 2e-8


@pytest.fixture
def found() -> Reconstructed:
    rng = np.random.default_rng(0)
    obj = rng.uniform(0.5, 1, (40, 48)) * np.exp(1j * rng.uniform(-3, 3, (40, 48)))
    y, x = np.mgrid[:16, :16] - 8
    return Reconstructed(
        name="scan",
        object=obj.astype(np.complex64),
        probe=np.exp(-(x**2 + y**2) / 20).astype(np.complex64),
        positions_px=np.array([[24.0, 32.0], [0, 0], [12, 16]]),
        index=np.array([2, 0, 1]),
        pixel_m=PIXEL_M,
        energy_ev=8000.0,
        distance_m=1.5,
        errors=[0.5, 0.1],
    )


def test_ptychodus_product_has_its_keys_in_metres(tmp_path: Path, found: Reconstructed) -> None:
    with h5py.File(FORMATS["ptychodus"](tmp_path, found)) as file:
        required = ("name", "comments", "detector_object_distance_m", "probe_energy_eV", "exposure_time_s")
        assert all(name in file.attrs for name in required)
        np.testing.assert_array_equal(file["probe_position_indexes"], [0, 1, 2])
        # The middle of the scan is the middle of the object; x is the column.
        np.testing.assert_allclose(file["probe_position_x_m"], np.array([-16, 0, 16]) * PIXEL_M)
        np.testing.assert_allclose(file["probe_position_y_m"], np.array([-12, 0, 12]) * PIXEL_M)
        assert file["object"].shape == (1, 40, 48) and file["probe"].shape == (1, 1, 16, 16)
        assert file["object"].attrs["pixel_width_m"] == file["probe"].attrs["pixel_height_m"] == PIXEL_M
        assert file["object"].attrs["center_x_m"] == 0 and len(file["loss_values"]) == 2
        assert file["object_layer_spacing_m"].shape == (0,)


@pytest.mark.parametrize("modes", [1, 2])
@pytest.mark.parametrize("form", ["ptychodus", "cxi"])
def test_own_readers_find_positions_and_probe_again(
    tmp_path: Path, found: Reconstructed, form: str, modes: int
) -> None:
    if modes > 1:
        found = replace(found, probe=np.stack([found.probe, 0.5j * found.probe]))
    with open_scan(str(FORMATS[form](tmp_path, found)), [], None) as raw:
        assert raw.positions is not None and raw.probe is not None and raw.positions.unit == "m"
        moved = np.diff(raw.positions.values, axis=0) / PIXEL_M
        np.testing.assert_allclose(moved, [[12, 16], [12, 16]])
        np.testing.assert_array_equal(raw.positions.index, [0, 1, 2])
        np.testing.assert_array_equal(raw.probe.values, found.probe.reshape(modes, 16, 16))
        assert raw.energy_ev == pytest.approx(8000, rel=1e-5) and raw.distance_m == 1.5


def test_images_of_16_bit_tell_their_scale(tmp_path: Path, found: Reconstructed) -> None:
    FORMATS["tiff"](tmp_path, found)
    for name, truth in (("phase", np.angle(found.object)), ("amplitude", np.abs(found.object))):
        with tifffile.TiffFile(tmp_path / f"{name}.tiff") as file:
            page = file.pages[0]
            told = json.loads(page.description)  # type: ignore[union-attr]
            values = page.asarray()
        assert values.dtype == np.uint16 and told["object_pixel_m"] == PIXEL_M
        shown = told["black"] + values / 65535 * (told["white"] - told["black"])
        np.testing.assert_allclose(shown, truth, atol=1e-4)


def test_lengths_need_a_pixel() -> None:
    check_formats(["tiff"], None, measured=True)
    with pytest.raises(ValueError, match=r"--format=cxi: lengths are in metres.*data\.geometry"):
        check_formats(["tiff", "cxi"], None, measured=True)
    with pytest.raises(ValueError, match=r"is for measured scans"):
        check_formats(["tiff"], PIXEL_M, measured=False)

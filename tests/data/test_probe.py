from pathlib import Path

import numpy as np
import pytest
import torch

from ptychofno import physics
from ptychofno.data.probe import ApertureProbe, GaussianProbe, NpzProbe

N = 32


def aperture(diameter: float = 0.75, edge: float = 0.4, defocus: float = 0.0, size: int = N) -> np.ndarray:
    return ApertureProbe(diameter=diameter, edge_width=edge, defocus_rad=defocus).make(size)


def radius_of(diameter: float, size: int = N) -> np.ndarray:
    """Distance of each pixel from the centre pixel, in radii of the aperture."""
    axis = np.arange(size) - size // 2
    return np.hypot(axis[:, None], axis[None, :]) / (diameter * size / 2)


@pytest.mark.parametrize("defocus", [0.0, 3.0, -5.0])
@pytest.mark.parametrize("size", [32, 33])
def test_aperture_is_normalised_and_centred(defocus, size):
    probe = aperture(defocus=defocus, size=size)
    assert probe.shape == (size, size) and probe.dtype == np.complex64
    assert np.abs(probe).max() == pytest.approx(1, abs=1e-6)
    # Point symmetry about the centre pixel; an even size has an unpaired first row and column.
    inner = probe[1:, 1:] if size % 2 == 0 else probe
    np.testing.assert_allclose(inner, inner[::-1, ::-1], atol=1e-6)


def test_aperture_is_a_raised_cosine_with_quadratic_phase():
    defocus, edge, diameter = 3.0, 0.4, 0.75
    probe = aperture(diameter, edge, defocus)
    radius = radius_of(diameter)
    np.testing.assert_allclose(np.abs(probe)[radius <= 1 - edge], 1.0, atol=1e-6)
    assert not probe[radius >= 1].any()
    halfway = np.abs(radius - (1 - edge / 2)) < 0.02
    np.testing.assert_allclose(np.abs(probe)[halfway], 0.5, atol=0.1)
    inside = radius < 0.95
    np.testing.assert_allclose(
        np.angle(probe[inside] * np.exp(-1j * defocus * radius[inside] ** 2)), 0, atol=1e-3
    )


def test_defocus_spreads_the_far_field():
    def largest_share(defocus: float) -> float:
        intensity = physics.far_field(torch.from_numpy(aperture(defocus=defocus))).abs().square()
        return float(intensity.max() / intensity.sum())

    assert largest_share(8.0) < 0.5 * largest_share(0.0)


def gaussian(fwhm: float = 0.25, defocus: float = 0.0, size: int = N) -> np.ndarray:
    return GaussianProbe(fwhm=fwhm, defocus_rad=defocus).make(size)


@pytest.mark.parametrize("size", [32, 33])
def test_gaussian_has_the_width_and_the_phase_asked_for(size):
    probe = gaussian(fwhm=8 / size, defocus=1.5, size=size)
    assert probe.shape == (size, size) and probe.dtype == np.complex64
    centre = size // 2
    assert probe[centre, centre] == 1
    for down, right in ((4, 0), (0, 4), (-4, 0), (0, -4)):
        half = probe[centre + down, centre + right]
        assert abs(half) ** 2 == pytest.approx(0.5, rel=1e-6)
        assert np.angle(half) == pytest.approx(1.5, rel=1e-6)
    # The integral of 2^(-(r / 4 px)^2) over the plane.
    intensity = np.abs(probe.astype(complex)) ** 2
    assert intensity.sum() == pytest.approx(np.pi * 4**2 / np.log(2), rel=1e-3)


def test_without_defocus_an_object_and_its_twin_give_one_pattern():
    rng = np.random.default_rng(2)
    patch = torch.from_numpy(rng.normal(size=(33, 33)) + 1j * rng.normal(size=(33, 33)))
    twin = patch.flip(0, 1).conj()

    def distance(defocus: float) -> float:
        probe = torch.from_numpy(gaussian(defocus=defocus, size=33)).to(torch.complex128)
        one, other = (physics.diffraction_amplitude(each, probe) for each in (patch, twin))
        return float((one - other).abs().mean() / one.mean())

    assert distance(0.0) < 1e-6
    assert distance(2.0) > 0.1


def write(path: Path, **arrays: np.ndarray) -> NpzProbe:
    np.savez(path, **arrays)
    return NpzProbe(path=str(path), key="probe")


def some_probe(*leading: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.normal(size=(*leading, N, N)) + 1j * rng.normal(size=(*leading, N, N))


@pytest.mark.parametrize("leading", [(), (1,), (1, 1, 1, 1)])
def test_probe_from_file_keeps_its_values(tmp_path, leading):
    array = some_probe(*leading)
    probe = write(tmp_path / "p.npz", probe=array).make(N)
    assert probe.dtype == np.complex64
    np.testing.assert_array_equal(probe, array.reshape(N, N).astype(np.complex64))


def test_modes_from_file_make_the_same_light(tmp_path):
    array = some_probe(3)
    found = write(tmp_path / "p.npz", probe=array).make(N)
    assert found.shape == (3, N, N)
    np.testing.assert_allclose(np.square(np.abs(found)).sum(0), np.square(np.abs(array)).sum(0), rtol=1e-4)
    # Of variations over the scan the first is taken, with its modes.
    varying = write(tmp_path / "v.npz", probe=np.stack([array, 0 * array])).make(N)
    np.testing.assert_array_equal(varying, found)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"prob": some_probe(), "other": some_probe()}, r"'probe' .*'prob', 'other'; nearest: 'prob'$"),
        ({"probe": some_probe()[1:, 1:]}, r"shape \(31, 31\); expected \(32, 32\)"),
        ({"probe": np.array([{"a": 1}], dtype=object)}, r"'probe' holds pickled objects"),
        ({"probe": np.array(["text"])}, r"'probe' is <U4; expected numbers"),
    ],
)
def test_unusable_probe_file_is_refused_by_name(tmp_path, arrays, message):
    path = tmp_path / "p.npz"
    with pytest.raises(ValueError, match=message) as caught:
        write(path, **arrays).make(N)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_named_by_its_setting(tmp_path):
    for path in (tmp_path / "absent.npz", tmp_path):
        with pytest.raises(ValueError, match=r"probe\.path=.*(no such file|is a directory); expected HDF5"):
            NpzProbe(path=str(path), key="probe").make(N)


def test_damaged_array_is_refused(tmp_path):
    path = tmp_path / "p.npz"
    settings = write(path, probe=some_probe())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="'probe' is damaged"):
        settings.make(N)

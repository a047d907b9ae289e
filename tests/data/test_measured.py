import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_scans import TIKE, settings

from ptychofno import physics
from ptychofno.data import PtychoDataset, dataset_key, load_dataset
from ptychofno.data.dataset import pattern_numbers
from ptychofno.data.look import dead_marks
from ptychofno.data.measured import read_measured
from ptychofno.data.probe import ApertureProbe, DatasetProbe, NpzProbe, RefinedProbe
from ptychofno.data.settings import MeasuredData, MeasuredLayout

N, COUNT = 16, 24
PTYCHOPINN = MeasuredLayout(
    patterns_keys=["diff3d", "diffraction"],
    quantity="amplitude",
    zero_frequency="centre",
    probe_key="probeGuess",
    positions_keys=["ycoords", "xcoords"],
    positions_unit="px",
)


@pytest.fixture(scope="module")
def scan() -> dict[str, np.ndarray]:
    """A simulated measurement: centred counts, the probe that made them, fractional positions."""
    rng = np.random.default_rng(5)
    axis = np.arange(N) - N / 2
    probe = np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / 18 + 0.2j * axis[:, None]).astype(
        np.complex64
    )
    positions = rng.uniform(0, 20, size=(COUNT, 2))
    obj = torch.polar(
        torch.from_numpy(rng.uniform(0.5, 1, (40, 40))), torch.from_numpy(rng.uniform(0, 1, (40, 40)))
    ).to(torch.complex64)
    patches = physics.extract_patches(obj, torch.from_numpy(positions), N)
    amplitude = physics.diffraction_amplitude(patches, torch.from_numpy(probe)).numpy()
    counts = rng.poisson(100 * amplitude**2).astype(np.float32)
    return {"counts": counts, "probe": probe, "positions": positions}


def tike_file(path: Path, scan: dict[str, np.ndarray], /, **changes: np.ndarray) -> MeasuredData:
    arrays = {
        "data": np.fft.ifftshift(scan["counts"], axes=(1, 2))[None],
        "probe": scan["probe"][None, None, None, None],
        "scan": (scan["positions"] - 10)[None].astype(np.float32),
    }
    np.savez(path, **(arrays | changes))
    return settings(path, TIKE)


def ptychopinn_file(path: Path, scan: dict[str, np.ndarray], key: str = "diff3d") -> MeasuredData:
    rows, cols = scan["positions"].T + 3
    arrays = {key: np.sqrt(scan["counts"]), "probeGuess": scan["probe"], "xcoords": cols, "ycoords": rows}
    np.savez(path, **arrays, objectGuess=np.ones((4, 4), complex))
    return settings(path, PTYCHOPINN)


def read(data: MeasuredData) -> PtychoDataset:
    return read_measured(data, DatasetProbe(), "key")


# --- both layouts ----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["tike", "diff3d", "diffraction"])
def test_both_layouts_give_the_same_centred_amplitudes(tmp_path, scan, layout):
    path = tmp_path / "scan.npz"
    dataset = read(tike_file(path, scan) if layout == "tike" else ptychopinn_file(path, scan, layout))
    index = np.arange(COUNT)
    members = {"validation": index % 6 == 0, "test": index % 6 == 3}
    members["train"] = ~(members["validation"] | members["test"])
    shifted = scan["positions"] - scan["positions"].min(axis=0)
    for name, member in members.items():
        split = getattr(dataset, name)
        np.testing.assert_allclose(split.amplitude[:, 0] ** 2, scan["counts"][member], rtol=1e-5)
        np.testing.assert_allclose(split.positions_px[:, 0], shifted[member], atol=1e-5)
        assert (split.amplitude.dtype, split.positions_px.dtype) == (np.float32, np.float64)
        assert split.object_index.dtype == np.int64 and not split.object_index.any()
    assert len(dataset.train) == 16 and len(dataset.validation) == len(dataset.test) == 4
    assert dataset.test_objects is None and dataset.photon_scale == 1.0
    assert (dataset.N, dataset.gridsize) == (N, 1)


def test_first_of_several_pattern_keys_counts(tmp_path, scan):
    path = tmp_path / "scan.npz"
    data = ptychopinn_file(path, scan)
    with np.load(path) as archive:
        np.savez(path, **dict(archive), diffraction=np.ones(3))
    assert len(read(data).train) == 16


def test_probe_explains_the_mean_training_intensity(tmp_path, scan):
    dataset = read(tike_file(tmp_path / "scan.npz", scan))
    energy = np.square(np.abs(dataset.probe)).sum()
    intensity = np.square(dataset.train.amplitude.astype(np.float64)).sum(axis=(1, 2, 3)).mean()
    assert energy == pytest.approx(intensity, rel=1e-5)
    # Only its scale: shape and phase are the file's.
    ratio = dataset.probe / scan["probe"]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)
    assert ratio[0, 0].real > 0
    amplitude = dataset.train.amplitude.astype(np.float64)
    assert dataset.mean_amplitude == pytest.approx(amplitude.mean(), rel=1e-12)
    assert dataset.rms_amplitude == pytest.approx(np.sqrt(np.square(amplitude).mean()), rel=1e-12)


def test_scan_returns_every_pattern_in_order_of_the_splits(tmp_path, scan):
    dataset = read(tike_file(tmp_path / "scan.npz", scan))
    whole = dataset.scan()
    assert len(whole) == COUNT and len(whole.object_index) == COUNT
    parts = (dataset.train, dataset.validation, dataset.test)
    np.testing.assert_array_equal(whole.amplitude, np.concatenate([part.amplitude for part in parts]))
    np.testing.assert_array_equal(whole.positions_px, np.concatenate([part.positions_px for part in parts]))
    np.testing.assert_allclose(whole.positions_px.min(axis=(0, 1)), 0)


@pytest.mark.parametrize(("every", "count"), [(3, 3), (3, 7), (4, 9), (7, 24), (46, 24)])
def test_every_pattern_belongs_to_one_split(tmp_path, scan, every, count):
    data = tike_file(
        tmp_path / "scan.npz",
        scan,
        data=np.fft.ifftshift(scan["counts"], axes=(1, 2))[:count],
        scan=scan["positions"][:count],
    )
    dataset = read(replace(data, held_out_every=every))
    assert min(len(dataset.train), len(dataset.validation), len(dataset.test)) >= 1
    found = sorted(map(tuple, dataset.scan().positions_px[:, 0]))
    expected = scan["positions"][:count] - scan["positions"][:count].min(axis=0)
    np.testing.assert_allclose(found, sorted(map(tuple, expected)))


def test_probe_may_come_from_elsewhere(tmp_path, scan):
    data = tike_file(tmp_path / "scan.npz", scan)
    np.savez(tmp_path / "probe.npz", mine=7 * scan["probe"])
    other = read_measured(data, NpzProbe(path=str(tmp_path / "probe.npz"), key="mine"), "key")
    np.testing.assert_allclose(other.probe, read(data).probe, rtol=1e-5)
    aperture = ApertureProbe(diameter=0.5, edge_width=0.4, defocus_rad=0.0)
    assert read_measured(data, aperture, "key").probe.shape == (N, N)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint16, np.int64, np.float16, np.float64])
def test_counts_of_any_real_type_are_read_as_the_roots_in_single_precision(tmp_path, scan, dtype):
    counts = np.minimum(scan["counts"], 100)
    patterns = np.fft.ifftshift(counts, axes=(1, 2)).astype(dtype)
    dataset = read(tike_file(tmp_path / "scan.npz", scan, data=patterns))
    roots = np.sqrt(counts[::6].astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(dataset.validation.amplitude[:, 0], roots)


# --- cache -----------------------------------------------------------------------------------


def test_measured_data_go_through_the_cache(tmp_path, scan, caplog):
    caplog.set_level(logging.INFO, logger="ptychofno.data")
    data = tike_file(tmp_path / "scan.npz", scan)
    first, second = load_dataset(data, DatasetProbe()), load_dataset(data, DatasetProbe())
    assert sum(message.startswith("reading") for message in caplog.messages) == 1
    assert first.key == second.key and second.test_objects is None
    np.testing.assert_array_equal(first.train.amplitude, second.train.amplitude)
    assert len(second.scan()) == COUNT


def test_neither_log_nor_manifest_tells_where_the_file_was(tmp_path, scan, caplog):
    caplog.set_level(logging.INFO, logger="ptychofno")
    (tmp_path / "hunter2").mkdir()
    data = tike_file(tmp_path / "hunter2/scan.npz", scan)
    for _ in range(2):
        load_dataset(data, DatasetProbe())
    (manifest,) = Path(data.cache_dir).glob("*/manifest.json")
    assert "hunter2" not in manifest.read_text() and "content_sha256" in manifest.read_text()
    assert len(caplog.messages) == 2 and "hunter2" not in caplog.text


def test_key_follows_content_and_layout_but_not_the_path(tmp_path, scan):
    data = tike_file(tmp_path / "scan.npz", scan)
    key = dataset_key(data, DatasetProbe())
    moved = tmp_path / "moved.npz"
    moved.write_bytes(Path(data.path).read_bytes())
    assert dataset_key(replace(data, path=str(moved)), DatasetProbe()) == key
    for change in (
        {"layout": replace(TIKE, zero_frequency="centre")},
        {"layout": replace(TIKE, positions_keys=["other"])},
        {"held_out_every": 7},
    ):
        assert dataset_key(replace(data, **change), DatasetProbe()) != key
    other = tike_file(moved, scan, scan=scan["positions"] + 1)
    assert dataset_key(other, DatasetProbe()) != key


# --- zero frequency --------------------------------------------------------------------------


def ring(radius: float, width: float = 0.7) -> np.ndarray:
    axis = np.arange(N) - N // 2
    distance = np.hypot(axis[:, None], axis[None, :])
    pattern = 1000 * np.exp(-((distance - radius) ** 2) / (2 * width**2))
    return np.broadcast_to(pattern, (COUNT, N, N))


@pytest.mark.parametrize("radius", [0, 2, 4, 5.5])
@pytest.mark.parametrize("place", ["centre", "corner"])
def test_declared_zero_frequency_is_checked_against_the_data(tmp_path, scan, radius, place):
    patterns = ring(radius)
    if place == "corner":
        patterns = np.fft.ifftshift(patterns, axes=(1, 2))
    data = tike_file(tmp_path / "scan.npz", scan, data=patterns)
    dataset = read(replace(data, layout=replace(TIKE, zero_frequency=place)))
    np.testing.assert_allclose(dataset.test.amplitude[0, 0] ** 2, ring(radius)[0], rtol=1e-4, atol=1e-6)
    wrong = {"centre": "corner", "corner": "centre"}[place]
    with pytest.raises(ValueError, match=rf"zero_frequency={wrong} contradicts the data.*choose {place}$"):
        read(replace(data, layout=replace(TIKE, zero_frequency=wrong)))


def test_hot_pixel_does_not_move_the_zero_frequency(tmp_path, scan):
    patterns = np.fft.ifftshift(scan["counts"], axes=(1, 2))
    patterns[:, N // 2, N // 2] = scan["counts"].sum(axis=(1, 2)).max()
    read(tike_file(tmp_path / "scan.npz", scan, data=patterns))


# --- refused ---------------------------------------------------------------------------------


def breaking(index: tuple[int, ...], value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = np.array(array)
        array[index] = value
        return array

    return change


def raster(rows: int, cols: int) -> np.ndarray:
    return np.stack(np.mgrid[:rows, :cols], axis=-1).reshape(-1, 2).astype(np.float64)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_the_largest_integer_marks_a_dead_pixel(dtype):
    patterns = np.full((3, 4, 4), 5, dtype)
    assert dead_marks(patterns, "counts") is None
    patterns[1, 2, 3] = np.iinfo(dtype).max
    assert np.argwhere(dead_marks(patterns, "counts")).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64])
def test_the_mark_of_a_narrower_detector_is_known_in_a_wider_type(dtype):
    patterns = np.full((3, 4, 4), 2**16, dtype)
    assert dead_marks(patterns, "counts") is None
    patterns[0, 0, 0] = 2**32 - 1
    for array, quantity in ((patterns, "counts"), (np.sqrt(patterns), "amplitude")):
        assert np.argwhere(dead_marks(array, quantity)).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("positions", "why"),
    [
        (raster(1, 24) * [0, 0.7], "one row"),
        (raster(3, 8) * [9, 0.4], "one axis is sampled finely"),
        (np.repeat(raster(4, 3) * 5, 2, axis=0) + 0.05 * (np.arange(24) % 2)[:, None], "every place twice"),
        (15 * raster(4, 6), "little overlap"),
    ],
)
def test_unusual_scans_in_pixels_are_read(tmp_path, scan, positions, why):
    assert len(read(tike_file(tmp_path / "scan.npz", scan, scan=positions)).scan()) == COUNT, why


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("data", breaking((3, 1, 2), np.nan), r"'data'\[3, 1, 2\] is nan; expected finite"),
        ("data", breaking((3, 1, 2), np.inf), r"'data'\[3, 1, 2\] is inf; expected finite"),
        ("data", breaking((4, 0, 2), -2), r"'data'\[4, 0, 2\] is -2.0; expected finite counts >= 0"),
        ("data", breaking((4, 0, 2), 2**32 - 1), r"'data'\[4, 0, 2\] is 4294967296.0; expected .*mask_key"),
        ("data", lambda patterns: patterns + 0j, r"'data' is complex64; expected real counts"),
        ("data", lambda patterns: np.array([patterns, 1], dtype=object), r"'data' holds pickled objects"),
        ("data", lambda _: np.array(["a", "b"]), r"'data' is <U1; expected numbers"),
        ("data", lambda patterns: patterns[0], r"'scan' has shape \(24, 2\); expected \(1, 2\)"),
        ("data", lambda patterns: patterns.ravel(), r"shape \(6144,\); expected \(n, N, N\) or"),
        (
            "data",
            lambda patterns: patterns[:, :14],
            r"16 x 16 pixels, the patterns 14: .*expected a probe of",
        ),
        ("data", lambda patterns: np.stack([patterns, patterns]), r"\(24, 2\); expected \(48, 2\)"),
        ("data", lambda patterns: patterns[:3], r"'scan' has shape \(24, 2\); expected \(3, 2\)"),
        ("data", lambda patterns: 0 * patterns, r"'data' is dark everywhere"),
        ("data", breaking(([0, 6, 12, 18],), 0), r"without its dark patterns \[16, 0, 4\] are left for tr"),
        (
            "data",
            lambda patterns: patterns * np.float64(1e34),
            r"'data' reaches an amplitude of .*e\+18",
        ),
        (
            "data",
            lambda patterns: patterns * np.float64(1e-80),
            r"'data' reaches an amplitude of .*e-39",
        ),
        ("probe", lambda probe: probe * np.complex128(1e30), r"'probe' reaches an amplitude of .*e\+30"),
        ("scan", breaking((5, 1), np.nan), r"'scan'\[5, 1\] is nan"),
        ("scan", lambda positions: positions + 0j, r"'scan' is complex128; expected real positions"),
        ("scan", lambda positions: positions[:-1], r"'scan' has shape \(23, 2\); expected \(24, 2\)"),
        ("scan", lambda positions: 1e-8 * positions, r"'scan' lie .*e-08 apart.*may be metres"),
        ("scan", lambda positions: 0 * positions, r"'scan' lie 0 apart"),
        ("scan", lambda _: 0.4 * raster(4, 6), r"'scan' lie 0.4 apart.*may be micrometres"),
        ("scan", lambda _: 16.0 * raster(4, 6), r"'scan' lie 16 apart.*overlap.*may be nanometres"),
        ("scan", lambda _: 20.0 * np.repeat(raster(4, 3), 2, axis=0), r"'scan' lie 20 apart"),
        ("probe", np.abs, r"probe 'probe' is float32; expected complex"),
        ("probe", lambda probe: probe[1:, 1:], r"15 x 15 pixels, the patterns 16: .*expected a probe of 16"),
        ("probe", lambda probe: probe[1:], r"shape \(15, 16\); expected a square"),
        ("probe", lambda probe: 0 * probe, r"zero everywhere"),
        ("probe", np.fft.fftshift, r"probe 'probe' is brightest around the corner; .*np\.fft\.fftshift"),
        ("probe", breaking((2, 3), np.nan), r"'probe'\[2, 3\] is"),
    ],
)
def test_defect_is_refused_by_name(tmp_path, scan, key, change, message):
    sound = {
        "data": np.fft.ifftshift(scan["counts"], axes=(1, 2)),
        "scan": scan["positions"],
        "probe": scan["probe"],
    }
    data = tike_file(tmp_path / "scan.npz", scan, **{key: change(sound[key])})
    with pytest.raises(ValueError, match=message) as caught:
        read(data)
    assert str(data.path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "layout", "message"),
    [
        ({"gridsize": 3}, {}, r"held_out_every=6 with data\.gridsize=3 needs 52 or more"),
        ({"N": 64}, {}, r"data\.N=64: .* have 16 x 16 pixels; expected data\.N=16 or null"),
        ({"path": "absent.npz"}, {}, r"data\.path=absent\.npz: no such file"),
        ({"path": "."}, {}, r"data\.path=\.: is a directory; expected HDF5, NPZ"),
        ({}, {"patterns_keys": ["dato", "pattern"]}, r"no array 'dato' or 'pattern' .*nearest: 'data'"),
        (
            {},
            {"probe_key": "prob"},
            r"no array 'prob' \(data\.layout\.probe_key\); available: .*nearest: 'probe'",
        ),
        ({}, {"positions_keys": ["scans"]}, r"no array 'scans' .*nearest: 'scan'"),
        ({}, {"positions_keys": ["scan", "scan"]}, r"'scan' has shape \(1, 24, 2\); expected one"),
    ],
)
def test_wrong_settings_are_refused_by_name(tmp_path, scan, changes, layout, message):
    data = tike_file(tmp_path / "scan.npz", scan)
    data = replace(data, **changes, layout=replace(TIKE, **layout))
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset(data, DatasetProbe())
    assert "\n" not in str(caught.value)


def test_matching_size_may_be_declared(tmp_path, scan):
    assert read(replace(tike_file(tmp_path / "scan.npz", scan), N=N)).N == N


def test_a_mask_hides_whatever_the_detector_wrote_there(tmp_path, scan):
    valid = np.ones(scan["counts"].shape[1:], dtype=bool)
    valid[2:4, 3:] = False
    layout = replace(TIKE, mask_key="mask")
    seen = []
    for garbage in (0, 2**32 - 1, np.nan):
        counts = np.where(valid, scan["counts"], garbage)
        shifted = {"data": np.fft.ifftshift(counts, axes=(1, 2))[None], "mask": np.fft.ifftshift(valid)}
        file = tike_file(tmp_path / "masked.npz", scan, **shifted)
        seen.append(read(replace(file, layout=layout)))
    for dataset in seen:
        assert np.array_equal(dataset.valid, valid) and dataset.valid.dtype == np.float32
        assert not dataset.train.amplitude[:, 0, ~valid].any()
        assert np.array_equal(dataset.train.amplitude, seen[0].train.amplitude)
    with pytest.raises(ValueError, match="mask 'mask' has shape"):
        read(replace(tike_file(tmp_path / "odd.npz", scan, mask=valid[1:]), layout=layout))
    with pytest.raises(ValueError, match="is 0 everywhere"):
        none_valid = replace(layout, mask_means="valid")
        read(replace(tike_file(tmp_path / "none.npz", scan, mask=0 * valid), layout=none_valid))


def test_scan_axes_are_turned_as_the_layout_says(tmp_path, scan):
    right = read(tike_file(tmp_path / "right.npz", scan)).train.positions_px
    turned = (scan["positions"] * [-1, 1])[:, ::-1]
    file = tike_file(tmp_path / "turned.npz", scan, scan=turned[None].astype(np.float32))
    layout = replace(TIKE, swap_axes=True, negate_rows=True)
    np.testing.assert_allclose(read(replace(file, layout=layout)).train.positions_px, right, atol=1e-5)


def test_a_refined_probe_comes_from_the_training_patterns_alone(tmp_path, scan):
    wrong = (scan["probe"] * (1 + 0.4j * (np.abs(scan["probe"]) > 0.3)))[None, None, None, None]
    file = tike_file(tmp_path / "scan.npz", scan, probe=wrong.astype(np.complex64))
    given, found = (load_dataset(file, probe) for probe in (DatasetProbe(), RefinedProbe(rounds=10)))
    assert given.given_probe is None and np.array_equal(found.given_probe, given.probe)

    power = [np.square(np.abs(one)).sum() for one in (found.probe, given.probe)]
    assert power[0] == pytest.approx(power[1], rel=1e-3) and not np.allclose(found.probe, given.probe)
    counts = scan["counts"].copy()
    counts[3::6] *= 2  # test patterns
    other = tike_file(tmp_path / "other.npz", scan | {"counts": counts}, probe=wrong.astype(np.complex64))
    assert np.array_equal(load_dataset(other, RefinedProbe(rounds=10)).probe, found.probe)


@pytest.mark.slow
def test_modes_of_the_file_are_taken_fewer_or_more(tmp_path, scan):
    probe = scan["probe"]
    several = np.stack([probe, 0.5 * np.roll(probe, 3, 0), 0.2 * np.roll(probe, 3, 1)]).astype(np.complex64)
    data = tike_file(tmp_path / "scan.npz", scan, probe=several[None, None, None])
    light = {}
    for count in (None, 1, 2, 3, 4):
        found = read_measured(data, RefinedProbe(rounds=0, modes=count), "key")
        assert found.probe.shape == ((N, N) if count == 1 else (count or 3, N, N))
        power = np.square(np.abs(found.probe)).sum(axis=(-2, -1)).reshape(-1)
        assert np.all(np.diff(power) <= 0) or count == 4
        light[count] = power / power.sum()
        (note,) = (line for line in found.notes if "mode" in line)
        said = {1: "of 3 modes of the probe 1 is taken", 2: "2 are taken", 4: "4 modes, 1 of which begin"}
        assert said.get(count, "the 3 modes of the probe have") in note
    np.testing.assert_allclose(light[2], light[3][:2] / light[3][:2].sum(), rtol=1e-4)
    assert np.array_equal(light[None], light[3]) and light[4][3] == pytest.approx(0.1 / 1.1, rel=1e-3)
    refined = read_measured(data, RefinedProbe(rounds=3), "key")
    assert refined.probe.shape == refined.given_probe.shape == (3, N, N)
    assert any(note.startswith("refined, the 3 modes of the probe have") for note in refined.notes)


def test_dark_frames_are_left_out_and_the_others_keep_their_splits(tmp_path, scan):
    whole = read(tike_file(tmp_path / "whole.npz", scan))
    counts = scan["counts"].copy()
    dark = [0, 3, 7, 20]  # one each for validation and test
    counts[dark] = 0
    data = tike_file(tmp_path / "dark.npz", scan | {"counts": counts})
    load_dataset(data, DatasetProbe())
    found = load_dataset(data, DatasetProbe())  # from the cache
    assert found.dropped == tuple(dark) and whole.dropped == ()
    assert "4 of 24 patterns are dark and left out with their positions: number 0, 3, 7, 20" in found.notes
    numbers = pattern_numbers(found, data.held_out_every)
    assert sorted({*numbers, *dark}) == list(range(24))
    place = {number: i for i, number in enumerate(pattern_numbers(whole, data.held_out_every))}
    same = [place[number] for number in numbers]
    assert np.array_equal(found.scan().amplitude, whole.scan().amplitude[same])
    moved = found.scan().positions_px - whole.scan().positions_px[same]
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-9)
    assert found.scan().positions_px.min() == 0
    assert [len(found.train), len(found.validation), len(found.test)] == [14, 3, 3]

"""Files of every known format end in the same amplitudes, positions and probe; the others in one line."""

from __future__ import annotations

import bz2
import gzip
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scan_files as files
from scan_files import COUNT, ENERGY_EV, PIXEL_M, N, write_hdf5, write_npz

from ptychofno.config.composition import compose
from ptychofno.config.records import settings
from ptychofno.data import PtychoDataset, load_dataset
from ptychofno.data.measured import read_measured
from ptychofno.data.preparation import bins_for
from ptychofno.data.readers import open_scan, open_source, source

Scan = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def scan() -> Scan:
    return files.simulated()


@pytest.fixture(autouse=True)
def _upright(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying every orientation takes longer than reading."""
    if request.node.name != "test_swapped_axes_are_told":
        monkeypatch.setattr("ptychofno.data.measured.orientation_note", lambda *_: None)


def read(*paths: Path, said: tuple[str, ...] = ()) -> PtychoDataset:
    """The dataset of a scan's files."""
    more = [f"data.also=[{','.join(map(str, paths[1:]))}]"] if len(paths) > 1 else []
    plan = settings(compose(["data=measured", "probe=dataset", f"data.path={paths[0]}", *more, *said]))
    return read_measured(plan.data, plan.probe, "key")


def require_same(found: PtychoDataset, scan: Scan, *, probe: bool = True) -> None:
    """All patterns, at their positions, and the probe up to its scale."""
    whole = found.scan()
    order = np.argsort(np.r_[tuple(np.flatnonzero(role) for role in roles())])
    counts = np.square(whole.amplitude[order, 0])
    positions = whole.positions_px[order, 0]
    if not np.allclose(counts, scan["intensity"], rtol=1e-4, atol=1e-3):
        counts, positions = counts[::-1], positions[::-1]
    np.testing.assert_allclose(counts, scan["intensity"], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(positions, scan["positions"], atol=1e-3)
    if probe:
        ratio = found.probe / scan["probe"]
        np.testing.assert_allclose(ratio, ratio[N // 2, N // 2], rtol=1e-3)


def roles() -> list[np.ndarray]:
    index = np.arange(COUNT) % 12
    return [(index != 0) & (index != 6), index == 0, index == 6]


# --- formats ---------------------------------------------------------------------------------

FORMATS: dict[str, Callable[[Path, Scan], tuple[Path, ...]]] = {
    "NPZ": lambda d, s: (write_npz(d / "a.npz", s),),
    "HDF5": lambda d, s: (write_hdf5(d / "a.h5", {f"entry/scan/{k}": v for k, v in s.items()}),),
    "CXI": lambda d, s: (files.cxi(d / "a", s),),
    "ptypy": lambda d, s: (files.ptyd(d / "a", s),),
    "ptychodus": lambda d, s: files.ptychodus(d / "a", d / "b", s),
    "ptychodus, patterns first": lambda d, s: files.ptychodus(d / "a", d / "b", s)[::-1],
    "fold_slice": lambda d, s: files.fold_slice(d / "a", d / "b", s),
    "PtyLab": lambda d, s: (files.ptylab(d / "a", s),),
    "MATLAB": lambda d, s: (files.matlab(d / "a", s),),
    "PtychoNN": lambda d, s: (
        write_npz(
            d / "a.npz", {"reciprocal": s["intensity"], "position": s["positions"], "probe": s["probe"]}
        ),
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_ends_in_the_same_scan(tmp_path: Path, scan: Scan, name: str) -> None:
    found = read(*FORMATS[name](tmp_path, scan))
    require_same(found, scan, probe=name not in ("CXI", "ptypy", "PtyLab"))
    knows_pixel = name in ("CXI", "ptypy", "PtyLab", "ptychodus", "ptychodus, patterns first", "fold_slice")
    assert found.object_pixel_m == (pytest.approx(PIXEL_M, rel=1e-3) if knows_pixel else None)


def test_arrays_in_files_of_their_own(tmp_path: Path, scan: Scan) -> None:
    np.save(tmp_path / "patterns", scan["intensity"].astype(np.uint32))
    np.save(tmp_path / "probe", scan["probe"])
    rows = "\n".join(f"{row}, {col}" for row, col in scan["positions"])
    (tmp_path / "positions.csv").write_text(f"row, col\n{rows}\n")
    require_same(read(*(tmp_path / name for name in ("patterns.npy", "positions.csv", "probe.npy"))), scan)
    # As a plain table, and one file per pattern.
    (tmp_path / "plain.txt").write_text(rows.replace(",", " "))
    for number, pattern in enumerate(scan["intensity"]):
        np.save(tmp_path / f"p{number:02}", pattern)
    singles = [tmp_path / f"p{number:02}.npy" for number in range(COUNT)]
    require_same(read(*singles, tmp_path / "plain.txt"), scan, probe=False)


def test_typed_keys_take_the_place_of_usual_names_in_every_file(tmp_path: Path, scan: Scan) -> None:
    first = write_hdf5(
        tmp_path / "a.h5", {"raw/stack": scan["intensity"], "intensity": scan["intensity"] + 1}
    )
    wrong = {"positions": scan["positions"][::-1], "intensity": scan["intensity"][:, ::-1]}
    second = write_npz(tmp_path / "b.npz", wrong, where=scan["positions"], probe=scan["probe"])
    said = ("data.layout.patterns_keys=[stack,raw/stack]", "data.layout.positions_keys=[where]")
    require_same(read(first, second, said=said), scan)


@pytest.mark.parametrize("compress", [bz2.compress, gzip.compress])
def test_compressed_files_are_read(tmp_path: Path, scan: Scan, compress: Callable[[bytes], bytes]) -> None:
    (tmp_path / "x").write_bytes(compress(write_npz(tmp_path / "a.npz", scan).read_bytes()))
    require_same(read(tmp_path / "x"), scan)


@pytest.mark.parametrize("change", [lambda a: a.astype(">u2"), np.asfortranarray, lambda a: a.astype(float)])
def test_any_type_and_order_of_numbers(tmp_path: Path, scan: Scan, change: Callable[..., np.ndarray]) -> None:
    require_same(read(write_npz(tmp_path / "a.npz", scan, intensity=change(scan["intensity"]))), scan)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {"intensity": s["intensity"].reshape(6, 6, N, N)},
        lambda s: {"intensity": np.moveaxis(s["intensity"], 0, -1)},
        lambda s: {"positions": s["positions"].T},
        lambda s: {"intensity": np.fft.ifftshift(s["intensity"], axes=(1, 2))},
        lambda s: {"intensity": np.pad(s["intensity"], ((0, 0), (0, 0), (8, 8)))},
        lambda s: {"intensity": np.pad(s["intensity"], ((0, 0), (48, 48), (48, 48)))},
        lambda s: {"probe": np.pad(s["probe"], 16)},
        lambda s: {"probe": s["probe"][None, None]},
        lambda s: {"positions": np.c_[s["positions"], np.full(COUNT, 3.0)]},
    ],
    ids=["grid", "last", "2 x n", "corner", "nonsquare", "large", "wide probe", "modes", "x y z"],
)
def test_arrays_that_stand_another_way(tmp_path: Path, scan: Scan, change: Callable[[Scan], Scan]) -> None:
    require_same(read(write_npz(tmp_path / "a.npz", scan, **change(scan))), scan)


def test_an_odd_detector_is_cropped_and_the_pixels_grow(tmp_path: Path, scan: Scan) -> None:
    found = read(write_npz(tmp_path / "a.npz", scan, intensity=scan["intensity"][:, 1:, 1:], probe=None))
    assert found.N == 30
    np.testing.assert_allclose(
        np.ptp(found.scan().positions_px[:, 0], axis=0), np.ptp(scan["positions"], axis=0) * 30 / 31
    )


# --- masks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dead", "kind", "mask"),
    [
        (-1, np.int32, None),
        (np.nan, np.float32, None),
        (2**32 - 1, np.uint32, None),
        (2**32 - 1, np.uint32, "bad"),
        (0, np.int32, "bad"),
        (0, np.int32, "valid"),
        (-1, np.int32, "valid"),
        (7e5, np.float64, "valid"),
    ],
)
def test_dead_pixels_count_nothing(
    tmp_path: Path, scan: Scan, dead: float, kind: Any, mask: str | None
) -> None:
    counts = scan["intensity"].astype(kind)
    counts[:, 10, :] = dead
    row = np.arange(N)[:, None] == np.full(N, 10)
    found = read(
        write_npz(
            tmp_path / "a.npz",
            scan,
            intensity=counts,
            mask=None if mask is None else (row if mask == "bad" else ~row).astype(np.uint8),
        )
    )
    assert found.valid is not None and np.array_equal(found.valid == 0, row)
    assert not found.train.amplitude[:, 0, 10].any() and found.notes


def test_a_mask_in_a_file_of_its_own_and_a_hot_pixel(tmp_path: Path, scan: Scan) -> None:
    counts = scan["intensity"].copy()
    counts[:, 3, 4] = 10**7 + np.arange(COUNT)
    mask = np.ones((N, N), bool)
    mask[20, 20] = False
    np.save(tmp_path / "mask.npy", mask)
    (tmp_path / "mask.npy").rename(tmp_path / "m")
    found = read(write_npz(tmp_path / "a.npz", scan, intensity=counts), tmp_path / "m")
    assert found.valid is not None
    assert [*map(tuple, np.argwhere(found.valid == 0))] == [(3, 4), (20, 20)]


def test_saturated_counts_are_refused_until_they_are_masked(tmp_path: Path, scan: Scan) -> None:
    path = write_npz(tmp_path / "a.npz", scan, intensity=np.minimum(scan["intensity"], 4095))
    with pytest.raises(ValueError, match=r"'intensity': \d+ values, the first at \[0, 1\d, 1\d\], are 4095"):
        read(path)
    found = read(path, said=("data.detector.saturation=4095",))
    assert found.valid is not None and found.valid[N // 2, N // 2] == 0
    assert read(path, said=("data.detector.saturation=4096",)).valid is None
    with pytest.raises(ValueError, match=r"saturation: reached by every lit pixel of .*'intensity'"):
        read(path, said=("data.detector.saturation=1",))


# --- detector --------------------------------------------------------------------------------


def test_bins_sum_counts_and_keep_the_object_pixel(tmp_path: Path, scan: Scan) -> None:
    found = read(files.cxi(tmp_path / "a", scan), said=("data.detector.bin=2",))
    assert found.N == N // 2 and found.object_pixel_m == pytest.approx(PIXEL_M, rel=1e-3)
    assert np.square(found.scan().amplitude).sum() == pytest.approx(scan["intensity"].sum(), rel=1e-4)


def test_a_crop_makes_coarser_pixels_and_resamples_the_probe(tmp_path: Path, scan: Scan) -> None:
    found = read(write_npz(tmp_path / "a.npz", scan), said=("data.N=16",))
    np.testing.assert_allclose(
        np.ptp(found.scan().positions_px[:, 0], axis=0), np.ptp(scan["positions"], axis=0) / 2
    )
    np.testing.assert_allclose(
        np.square(found.validation.amplitude[0, 0]), scan["intensity"][0, 8:24, 8:24], rtol=1e-4, atol=1e-3
    )
    fine, coarse = np.abs(scan["probe"])[N // 2, ::2], np.abs(found.probe)[8]
    np.testing.assert_allclose(coarse / coarse.max(), fine / fine.max(), atol=0.05)


@pytest.mark.slow
def test_an_off_centre_beam_is_told_and_can_be_centred(tmp_path: Path, scan: Scan) -> None:
    moved = np.pad(scan["intensity"], ((0, 0), (20, 0), (0, 12)))
    path = write_npz(tmp_path / "a.npz", scan, intensity=moved, probe=None)
    assert any("data.detector.centre=mass" in note for note in read(path).notes)
    offset = "data.detector.centre_offset_px=[10,-6]"
    for said in (("data.detector.centre=mass", "data.N=32"), (offset, "data.N=32")):
        found = read(path, said=said)
        np.testing.assert_allclose(
            np.square(found.validation.amplitude[0, 0]), scan["intensity"][0], rtol=1e-4, atol=1e-3
        )


@pytest.mark.slow
def test_a_turned_detector_is_turned_back(tmp_path: Path, scan: Scan) -> None:
    turned = scan["intensity"][:, 1:, 1:].swapaxes(1, 2)[:, ::-1]
    said = ("data.detector.transpose=true", "data.detector.flip_cols=true", "data.N=30")
    path = write_npz(tmp_path / "a.npz", scan, intensity=turned, probe=None)
    right = read(write_npz(tmp_path / "b.npz", scan, intensity=scan["intensity"][:, 1:, 1:], probe=None))
    found = read(path, said=said)
    np.testing.assert_array_equal(found.train.amplitude, right.train.amplitude)


def test_swapped_axes_are_told(tmp_path: Path, scan: Scan) -> None:
    path = write_npz(tmp_path / "a.npz", scan, positions=scan["positions"][:, ::-1])
    assert any("data.layout.swap_axes=true" in note for note in read(path).notes)
    assert not read(path, said=("data.layout.swap_axes=true",)).notes


# --- geometry and probe ----------------------------------------------------------------------


@pytest.mark.parametrize(("unit", "factor"), [("m", 1), ("um", 1e6), ("nm", 1e9)])
def test_positions_in_a_length_need_a_geometry(tmp_path: Path, scan: Scan, unit: str, factor: float) -> None:
    path = write_npz(tmp_path / "a.npz", scan, positions=scan["positions"] * PIXEL_M * factor)
    said = (f"data.layout.positions_unit={unit}", f"data.geometry.energy_ev={ENERGY_EV}")
    with pytest.raises(ValueError, match=r"data\.geometry\.distance_m, data\.geometry\.detector_pixel_m"):
        read(path, said=said)
    said += (
        f"data.geometry.distance_m={files.DISTANCE_M}",
        f"data.geometry.detector_pixel_m={files.DETECTOR_PIXEL_M}",
    )
    require_same(read(path, said=said), scan)
    require_same(read(path, said=said[1:]), scan)


def test_a_geometry_of_another_scan_is_refused(tmp_path: Path, scan: Scan) -> None:
    with pytest.raises(ValueError, match=r"apart, expected more: .*data\.geometry"):
        read(files.cxi(tmp_path / "a", scan), said=("data.geometry.detector_pixel_m=7.5e-5",))


def test_a_far_position_is_named_by_its_index(tmp_path: Path, scan: Scan) -> None:
    positions = scan["positions"].copy()
    positions[17] = [1e6, 3]
    with pytest.raises(ValueError, match=r"'positions'\[17\] is \(1e\+06, 3\)"):
        read(write_npz(tmp_path / "a.npz", scan, positions=positions))


def test_without_a_probe_one_is_begun_from_the_patterns(tmp_path: Path, scan: Scan) -> None:
    found = read(write_npz(tmp_path / "a.npz", scan, probe=None))
    far = np.abs(np.fft.fftshift(np.fft.fft2(found.probe)))
    mean = np.sqrt(scan["intensity"].mean(axis=0))
    assert (far * mean).sum() > 0.99 * np.linalg.norm(far) * np.linalg.norm(mean)
    assert any("no probe" in note for note in found.notes)


def test_near_field_is_refused_by_name(tmp_path: Path, scan: Scan) -> None:
    """A shadow of the object that moves over the detector, wider than a far field could show."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:N, :N] - N // 2
    beam = 200 * np.exp(-(((x**2 + y**2) / 160) ** 4))
    shadow = rng.uniform(0.5, 1.5, (90, 90))
    steps = rng.integers(0, 12, (COUNT, 2))
    patterns = np.array([beam * shadow[r + 20 : r + 20 + N, c + 20 : c + 20 + N] for r, c in steps])
    near = dict(scan, intensity=np.round(patterns).astype(int), positions=-steps * 20.0)
    with pytest.raises(ValueError, match=r"are near field: .*only far-field patterns"):
        read(files.cxi(tmp_path / "a", near))


# --- what a file may try ---------------------------------------------------------------------


def test_links_to_other_files_are_not_followed(tmp_path: Path, scan: Scan) -> None:
    write_hdf5(tmp_path / "secret.h5", scan)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["positions"] = scan["positions"]
        file["inside"] = h5py.SoftLink("/positions")
        file["intensity"] = h5py.ExternalLink("secret.h5", "/intensity")
        file["around"] = h5py.ExternalLink("secret.h5", "/")
        file["sideways"] = h5py.SoftLink("/around/intensity")
        file["loop"] = h5py.SoftLink("/loop")
        file["group/self"] = h5py.SoftLink("/group")
    with open_source(str(tmp_path / "a.h5"), "data.path") as opened:
        assert set(opened.keys) == {"positions", "inside"}
    with pytest.raises(
        ValueError, match=r"'intensity' links to another file, 'secret\.h5', which is not followed"
    ):
        read(tmp_path / "a.h5", said=("data.layout.patterns_keys=[intensity]",))


def test_numbers_kept_in_another_file_are_refused(tmp_path: Path, scan: Scan) -> None:
    (tmp_path / "raw.bin").write_bytes(bytes(8 * COUNT * N * N))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["positions"] = scan["positions"]
        outside = [(str(tmp_path / "raw.bin"), 0, 8 * COUNT * N * N)]
        file.create_dataset("intensity", (COUNT, N, N), "f8", external=outside)
    with pytest.raises(ValueError, match="'intensity' has its numbers in another file"):
        read(tmp_path / "a.h5", said=("data.layout.patterns_keys=[intensity]",))


def test_a_large_claim_of_a_small_file_takes_no_memory(tmp_path: Path, scan: Scan) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["positions"] = scan["positions"]
        file.create_dataset("intensity", (10**7, 1024, 1024), "u2", chunks=(1, 1024, 1024))
    with pytest.raises(ValueError, match=r"'intensity' would take .* GiB"):
        read(tmp_path / "a.h5", said=("data.layout.patterns_keys=[intensity]",))


def header(shape: tuple[int, ...]) -> bytes:
    written = BytesIO()
    np.lib.format.write_array_header_1_0(written, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return written.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (header((2**17, 8)) + bytes(2**23), r"'scan' would take 0\.0 GiB, 10\d\d times its part of the file"),
        (header((2**50, 2)), "'scan' is damaged"),
        (header((4, 2)).replace(b"'descr'", b"'''escr"), "'scan' is damaged"),
    ],
    ids=["zeros", "shape", "header"],
)
def test_a_false_array_is_one_line(
    content: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_EMPTY_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("scan.npy", content)
    with open_source(str(tmp_path / "x.npz"), "data.path") as archive, pytest.raises(ValueError, match=said):
        archive.array("scan")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"MATLAB 5.0 MAT-file" + bytes(200), "save it with '-v7.3'"),
        (b"II*\0" + bytes(200), "is a TIFF image"),
        (b"PK\3\4" + bytes(200), "not a readable NPZ file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "not a readable HDF5 file"),
        (b"\x93NUMPY\x01\x00" + bytes(9), "not a readable NPY file"),
        (b"\x1f\x8b\x08\x00garbage", "cut short or damaged|not a readable|cannot be read"),
        (b"1 2\n3 4 5\n", "the rows of the table differ in length"),
        (bytes(range(256)), "expected HDF5, NPZ, NPY or a table"),
    ],
)
def test_other_files_are_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        read(tmp_path / "x")
    assert "\n" not in str(caught.value) and str(tmp_path / "x") in str(caught.value)


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path, scan: Scan) -> None:
    np.save(tmp_path / "a.npy", scan["intensity"])
    with pytest.raises(
        ValueError, match=r"no positions \(found patterns of 36x32x32\); .*data\.also=\[FILE\]"
    ):
        read(tmp_path / "a.npy")


def test_fractions_need_to_be_told_counts_or_amplitudes(tmp_path: Path, scan: Scan) -> None:
    path = write_npz(tmp_path / "a.npz", dict(scan, intensity=None), patterns=scan["intensity"] / 7.0)
    with pytest.raises(ValueError, match=r"holds fractions; expected data\.layout\.quantity=counts, or amp"):
        read(path)
    assert read(path, said=("data.layout.quantity=counts",)).train.amplitude.max() > 10


# --- reading ---------------------------------------------------------------------------------


def test_patterns_are_read_once_in_blocks(
    tmp_path: Path, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptychofno.data.readers import scan as frames

    path = write_hdf5(tmp_path / "a.h5", scan)
    monkeypatch.setattr(frames, "_BLOCK_BYTES", 8 * N * N * 5)
    read_of: list[tuple[int, int]] = []
    whole = frames.Frames.read

    def counted(self: frames.Frames, start: int, stop: int) -> np.ndarray:
        if start < COUNT:
            read_of.append((start, stop))
        return whole(self, start, stop)

    monkeypatch.setattr(frames.Frames, "read", counted)
    plan = settings(compose(["data=measured", "probe=dataset", f"data.path={path}"]))
    told: list[tuple[int, int]] = []
    found = read_measured(plan.data, plan.probe, "key", lambda done, count: told.append((done, count)))
    require_same(found, scan)
    assert read_of[1:] == [(start, start + 5) for start in range(0, COUNT, 5)]
    assert told[-1] == (COUNT, COUNT) and len(told) == 8


def test_notes_and_pixel_size_come_back_from_the_cache(tmp_path: Path, scan: Scan) -> None:
    path = files.cxi(tmp_path / "a", scan)
    said = ["data=measured", "probe=dataset", f"data.path={path}", f"data.cache_dir={tmp_path / 'cache'}"]
    plan = settings(compose(said))
    first, second = load_dataset(plan.data, plan.probe), load_dataset(plan.data, plan.probe)
    assert first.notes == second.notes and first.notes and first.object_pixel_m == second.object_pixel_m


def test_an_open_scan_tells_what_it_is(tmp_path: Path, scan: Scan) -> None:
    with open_scan(str(files.ptylab(tmp_path / "a", scan)), [], None) as raw:
        assert raw.format == "PtyLab" and not raw.missing and raw.probe is None
        assert raw.energy_ev == pytest.approx(ENERGY_EV)


def test_a_larger_scan_is_cropped_for_a_network_unless_that_loses_light(tmp_path: Path, scan: Scan) -> None:
    dark = write_npz(
        tmp_path / "a.npz", scan, intensity=np.pad(scan["intensity"], ((0, 0), (16, 16), (16, 16)))
    )
    from_centre = np.hypot(*(np.mgrid[:128, :128] - 64))
    fine = np.random.default_rng(2).poisson(np.where(from_centre < 50, 100.0, 0.1), (COUNT, 128, 128))
    wide = write_npz(tmp_path / "b.npz", scan, intensity=fine, probe=np.pad(scan["probe"], 48))
    for path, bins in ((dark, 1), (wide, 4)):
        assert bins_for(settings(compose(["data=measured", f"data.path={path}"])).data, N) == bins


@pytest.mark.parametrize("as_rows", [False, True])
def test_positions_of_cxi_run_along_the_basis_vectors_of_the_detector(
    tmp_path: Path, scan: Scan, as_rows: bool
) -> None:
    """The sample moves against the probe; turned, the rows of the detector go up."""
    file = files.cxi(tmp_path / "scan.cxi", scan)
    with open_scan(str(file), [], None) as raw:
        plain = raw.positions.values
    np.testing.assert_allclose(plain, scan["positions"] * PIXEL_M)
    vectors = np.array([[0, -1.0], [1.0, 0], [0, 0]]) * files.DETECTOR_PIXEL_M
    turned = files.cxi(tmp_path / "turned.cxi", scan, basis_vectors=vectors.T if as_rows else vectors)
    with open_scan(str(turned), [], None) as raw:
        np.testing.assert_allclose(raw.positions.values, plain * [-1, 1], atol=1e-15)

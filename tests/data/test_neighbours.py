"""Samples of a measured scan's pattern and its nearest neighbours."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_scans import TIKE, settings

from ptychofno.data import PtychoDataset
from ptychofno.data.measured import read_measured
from ptychofno.data.probe import DatasetProbe
from ptychofno.data.settings import MeasuredData
from ptychofno.evaluation.overlap import Samples, measurements

N, COUNT = 16, 60
LAYOUT = replace(TIKE, quantity="amplitude", zero_frequency="centre")


def scan_file(path: Path, count: int = COUNT) -> MeasuredData:
    """Patterns of which each has a brightness of its own, at random positions, two of them twice."""
    rng = np.random.default_rng(0)
    axis = np.arange(N) - N / 2
    probe = np.exp(-(axis[:, None] ** 2 + axis**2) / 18).astype(np.complex64)
    positions = rng.uniform(0, 30, (count, 2))
    positions[1], positions[8] = positions[2], positions[9]
    patterns = (np.abs(probe) * (1 + np.arange(count))[:, None, None]).astype(np.float32)
    np.savez(path, data=patterns, probe=probe, scan=positions)
    return settings(path, LAYOUT, gridsize=2)


def read(data: MeasuredData) -> PtychoDataset:
    return read_measured(data, DatasetProbe(), "key")


def numbers(amplitude: np.ndarray) -> np.ndarray:
    """Which pattern of the file each is."""
    return np.rint(amplitude.max((-2, -1))).astype(int) - 1


def test_a_sample_is_a_pattern_and_its_nearest_of_the_same_split(tmp_path: Path) -> None:
    data = scan_file(tmp_path / "scan.npz")
    alone, dataset = read(replace(data, gridsize=1)), read(data)
    assert dataset.gridsize == 2
    assert (dataset.mean_amplitude, dataset.rms_amplitude) == (alone.mean_amplitude, alone.rms_amplitude)
    np.testing.assert_array_equal(dataset.probe, alone.probe)
    for name in ("train", "validation", "test"):
        each, split = getattr(alone, name), getattr(dataset, name)
        members = numbers(each.amplitude[:, 0])
        which = numbers(split.amplitude)
        np.testing.assert_array_equal(which[:, 0], members)
        assert set(which.ravel()) == set(members)
        assert all(len(set(row)) == 4 for row in which.tolist())
        positions = dict(zip(members, each.positions_px[:, 0], strict=True))
        for row, where in zip(which, split.positions_px, strict=True):
            np.testing.assert_array_equal(where, [positions[i] for i in row])
            away = np.sort([np.hypot(*(positions[i] - where[0])) for i in members])
            found = np.sort(np.hypot(*(where - where[0]).T))
            np.testing.assert_allclose(found, away[:4])


def test_refinement_sees_a_position_of_several_samples_once(tmp_path: Path) -> None:
    dataset = read(scan_file(tmp_path / "scan.npz"))
    amplitude, positions = measurements([dataset.train, dataset.test])
    assert len(amplitude) == len(positions) == len(np.unique(positions, axis=0))
    known = {tuple(each) for split in (dataset.train, dataset.test) for each in split.positions_px[:, 0]}
    assert {tuple(each) for each in positions} == known


def test_without_neighbours_every_pattern_is_seen() -> None:
    """Two measurements at one position are two."""
    samples = Samples(np.arange(8.0).reshape(2, 1, 2, 2), np.zeros((2, 1, 2)))
    amplitude, positions = measurements([samples])
    np.testing.assert_array_equal(amplitude, samples.amplitude[:, 0])
    assert positions.shape == (2, 2)


def test_too_few_patterns_for_neighbours_are_refused(tmp_path: Path) -> None:
    data = scan_file(tmp_path / "scan.npz", count=21)
    message = r"are 21; data\.held_out_every=6 with data\.gridsize=2 needs 22 or more"
    with pytest.raises(ValueError, match=message):
        read(data)
    assert len(read(scan_file(tmp_path / "scan.npz", count=22)).test) == 4

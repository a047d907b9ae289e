"""The judge of a network in training agrees with the judge of a trained one."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ptychofno import metrics
from ptychofno.evaluation import follow_similarity, lit_pixels, scanned_region, stitch
from ptychofno.evaluation.stitch import NEARLY_SETTLED_RAD
from ptychofno.physics import extract_patches


def two_objects(scan):
    """A split that scans two objects on the same raster, its truths, and the true patches."""
    objects = torch.stack([scan.object, scan.object.flip(0)])
    patches = torch.cat([extract_patches(obj, scan.positions, 16) for obj in objects])
    count = len(scan.positions)
    split = SimpleNamespace(
        amplitude=None,
        positions_px=np.tile(scan.positions.numpy()[:, None], (2, 1, 1)),
        object_index=np.repeat([0, 1], count),
    )
    return split, objects.numpy(), patches[:, None]


def test_true_patches_of_any_phase_are_like_the_truth(scan):
    split, objects, patches = two_objects(scan)
    judge = follow_similarity(split, objects, scan.probe.numpy())
    angles = 2 * torch.pi * torch.rand(patches.shape[:1], generator=torch.Generator().manual_seed(5))
    turns = torch.polar(torch.ones(len(patches)), angles)[:, None, None, None]
    assert judge(turns * patches) == pytest.approx(1, abs=1e-4)


def test_it_is_the_ssim_of_the_comparison_averaged_over_objects(scan):
    split, objects, patches = two_objects(scan)
    generator = torch.Generator().manual_seed(3)
    patches = patches + 0.1 * torch.randn(patches.shape, generator=generator, dtype=torch.complex64)
    expected = []
    for k, truth in enumerate(objects):
        mine = split.object_index == k
        stitched = stitch(
            patches[torch.from_numpy(mine), 0],
            split.positions_px[mine, 0],
            scan.probe.numpy(),
            shape=truth.shape,
            settled_rad=NEARLY_SETTLED_RAD,
        )
        region = scanned_region(stitched.illumination)
        lit = lit_pixels(stitched.illumination)[region]
        expected.append(metrics.compare(stitched.object[region], truth[region], mask=lit)["ssim"][0])
    found = follow_similarity(split, objects, scan.probe.numpy())(patches)
    assert found == pytest.approx(np.mean(expected), abs=1e-9)
    assert 0.2 < found < 0.99 and expected[0] != pytest.approx(expected[1])


def test_what_cannot_be_judged_has_no_similarity(scan):
    split, objects, patches = two_objects(scan)
    broken = patches.clone()
    broken[3, 0, 2, 2] = torch.nan
    assert follow_similarity(split, objects, scan.probe.numpy())(broken) is None
    flat = np.ones_like(objects)
    assert follow_similarity(split, flat, scan.probe.numpy())(patches) is None


def test_patches_too_large_to_add_have_no_similarity(scan):
    split, objects, patches = two_objects(scan)
    assert follow_similarity(split, objects, scan.probe.numpy())(1e19 * patches) is None

"""Coherent far-field scattering and scanning: the one place for the FFT and position conventions."""

from ptychofno.physics.diffraction import (
    back_projection,
    complex_patches,
    diffraction_amplitude,
    far_field,
    inverse_far_field,
    modulus,
    photon_scale,
)
from ptychofno.physics.modes import (
    further_modes,
    incoherent_modulus,
    light_of,
    mode_shares,
    modes_of,
    orthogonal_modes,
)
from ptychofno.physics.overlap import Estimate, Scan, flat_estimate, make_scan, misfit_and_tilt
from ptychofno.physics.projection import error_reduction
from ptychofno.physics.refinement import Refined, orientation_that_fits, refine
from ptychofno.physics.scan import (
    extract_patches,
    lay,
    raster_positions,
    shift,
    split_positions,
)

__all__ = [
    "Estimate",
    "Refined",
    "Scan",
    "back_projection",
    "complex_patches",
    "diffraction_amplitude",
    "error_reduction",
    "extract_patches",
    "far_field",
    "flat_estimate",
    "further_modes",
    "incoherent_modulus",
    "inverse_far_field",
    "lay",
    "light_of",
    "make_scan",
    "misfit_and_tilt",
    "mode_shares",
    "modes_of",
    "modulus",
    "orientation_that_fits",
    "orthogonal_modes",
    "photon_scale",
    "raster_positions",
    "refine",
    "shift",
    "split_positions",
]

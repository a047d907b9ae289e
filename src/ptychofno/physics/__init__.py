"""Coherent far-field scattering and scanning: the one place for the FFT and position conventions."""

from ptychofno.physics.diffraction import (
    back_projection,
    complex_patches,
    diffraction_amplitude,
    error_reduction,
    far_field,
    inverse_far_field,
    modulus,
    photon_scale,
)
from ptychofno.physics.scan import extract_patches, place_patches, raster_positions

__all__ = [
    "back_projection",
    "complex_patches",
    "diffraction_amplitude",
    "error_reduction",
    "extract_patches",
    "far_field",
    "inverse_far_field",
    "modulus",
    "photon_scale",
    "place_patches",
    "raster_positions",
]

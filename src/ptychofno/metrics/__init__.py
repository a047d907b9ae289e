"""How close a reconstructed object is to the true one.

Shapes: (H, W) object in pixels, complex. What a measurement cannot tell is removed first: the
amplitude's scale, the global phase and, by choice, a linear phase ramp. Pixels that were not lit
are not compared. Each quality is a pair [amplitude, phase]; null (None) where it has no meaning.
"""

from ptychofno.metrics.alignment import (
    PHASE_ALIGNMENTS,
    SMALLEST_SIDE_PX,
    Aligned,
    align,
    phase_ramp,
    phase_slopes,
    remove_plane,
)
from ptychofno.metrics.rings import found_shares, fourier_ring_correlation, resolved_frequency
from ptychofno.metrics.similarity import QUALITIES, amplitude_similarity, compare

__all__ = [
    "PHASE_ALIGNMENTS",
    "QUALITIES",
    "SMALLEST_SIDE_PX",
    "Aligned",
    "align",
    "amplitude_similarity",
    "compare",
    "found_shares",
    "fourier_ring_correlation",
    "phase_ramp",
    "phase_slopes",
    "remove_plane",
    "resolved_frequency",
]

"""The names under which files keep what a scan needs: those of known formats, and usual ones.

A format is recognised by its keys, never by the name of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ptychofno.data.readers.scan import UNITS
from ptychofno.data.readers.source import Source

Names = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Format:
    """Where a kind of file keeps what. Of several names the first that is there counts; ``*`` is anything."""

    name: str
    known_by: Sequence[Names] = ()  # a file is of this format if it has one name of each
    patterns: Names = ()
    chunks: bool = False
    """Whether patterns and positions stand under all the keys that a name fits, one after the other."""
    patterns_index: Names = ()
    quantity: str | None = None
    zero_frequency: str | None = None
    positions: Sequence[Names] = ()  # each a name of (row, col) pairs, or the names of rows and of columns
    positions_index: Names = ()
    unit: str | None = None
    turned: Callable[[Source, np.ndarray], np.ndarray] | None = None
    """From positions as the file has them, (n, 2 or 3), to (row, col) as the probe moves."""
    probe: Names = ()
    probe_pixel_m: Names = ()
    object_pixel_m: Names = ()
    mask: Names = ()
    mask_means: str | None = None
    mask_bits: int | None = None  # those that count where a mask has several; None for all


def _probe_against_sample(source: Source, translation: np.ndarray) -> np.ndarray:
    """CXI has the sample's (x, y, z), against which the probe moves. Rows and columns of the detector run
    along its basis vectors, by default against y and x, as in cdtools."""
    axes = np.array([[0.0, -1, 0], [-1, 0, 0]])
    if (basis := source.find("entry_*/instrument_1/detector_1/basis_vectors")) is not None:
        vectors = source.reals(basis)
        vectors = vectors.T if vectors.shape == (2, 3) else vectors
        axes = (vectors / np.linalg.norm(vectors, axis=0)).T
    return -translation @ axes[:, : translation.shape[-1]].T


_CXI_PATTERNS = ("entry_*/instrument_1/detector_1/data", "entry_*/data_1/data")
_CXI_POSITIONS = (
    *("entry_*/sample_1/geometry_1/translation", "entry_*/data_1/translation"),
    "entry_*/instrument_1/detector_1/translation",
)
_CXI_PROBES = ("source_1/probe", "probe", "source_1/illumination")

_CXI = Format(
    name="CXI",
    known_by=((*_CXI_PATTERNS, *_CXI_POSITIONS),),
    patterns=_CXI_PATTERNS,
    quantity="counts",
    positions=tuple((name,) for name in _CXI_POSITIONS),
    positions_index=("entry_*/ptychodus/probe_position_indexes",),
    unit="m",
    turned=_probe_against_sample,
    probe=tuple(f"entry_*/instrument_1/{name}" for name in _CXI_PROBES),
    mask=("entry_*/instrument_1/detector_1/mask", "entry_*/instrument_1/detector_1/mask_shared"),
    mask_means="bad",
    mask_bits=~0x1000,  # a pixel with signal; every other bit says what is wrong with it
)
# Of two images the second is the object, as ptychodus has it; a single one is the object itself.
_CXI_WITH_PROBE = replace(
    _CXI,
    known_by=(*_CXI.known_by, ("entry_*/image_2/data",)),
    probe=(*_CXI.probe, "entry_*/image_1/data"),
)

FORMATS = (
    _CXI_WITH_PROBE,
    _CXI,
    Format(
        name="ptypy data",
        known_by=(("chunks/*/data",),),
        patterns=("chunks/*/data",),
        chunks=True,
        quantity="counts",
        positions=(("chunks/*/positions",),),
        unit="m",
        mask=("chunks/*/weights", "meta/weight2d", "common/weight2d"),
        mask_means="valid",
    ),
    Format(
        name="ptypy reconstruction",
        known_by=(("content/probe/*/data",),),
        probe=("content/probe/*/data",),
        probe_pixel_m=("content/probe/*/_psize", "content/probe/*/psize"),
    ),
    Format(
        name="ptychodus product",
        known_by=(("probe_position_x_m",), ("probe_position_y_m",)),
        positions=(("probe_position_y_m", "probe_position_x_m"),),
        positions_index=("probe_position_indexes",),
        unit="m",
        probe=("probe",),
        probe_pixel_m=("probe_pixel_height_m", "probe/pixel_height_m", "object/pixel_height_m"),
        object_pixel_m=("object_pixel_height_m", "object/pixel_height_m", "probe_pixel_height_m"),
    ),
    Format(
        name="ptychodus patterns",
        known_by=(("patterns",), ("indexes", "bad_pixels")),
        patterns=("patterns",),
        patterns_index=("indexes",),
        quantity="counts",
        mask=("bad_pixels",),
        mask_means="bad",
    ),
    # Both have x before y, and the motion of the sample.
    Format(
        name="fold_slice parameters",
        known_by=(("probe_positions_0",),),
        positions=(("probe_positions_0",),),
        turned=lambda source, found: -found[:, ::-1],
        probe=("probe",),
        object_pixel_m=("dx", "dx_spec"),
    ),
    Format(
        name="fold_slice parameters",
        known_by=(("ppX",), ("ppY",)),
        positions=(("ppY", "ppX"),),
        turned=lambda source, found: -found,
        probe=("probe",),
        object_pixel_m=("dx", "dx_spec"),
    ),
    Format(
        name="PtyLab",
        known_by=(("ptychogram",), ("encoder",)),
        patterns=("ptychogram",),
        quantity="counts",
        positions=(("encoder",),),
        unit="m",
        probe=("probe",),
    ),
    Format(
        name="PtychoPINN",
        known_by=(("diff3d", "diffraction"), ("xcoords",), ("ycoords",)),
        patterns=("diff3d", "diffraction"),
        quantity="amplitude",
        zero_frequency="centre",
        positions=(("ycoords", "xcoords"),),
        unit="px",
        probe=("probeGuess",),
    ),
    Format(
        name="PtychoNN",
        known_by=(("reciprocal",), ("position",)),
        patterns=("reciprocal",),
        positions=(("position",),),
        probe=("probe",),
    ),
    Format(
        name="tike",
        known_by=(("data",), ("scan",)),
        patterns=("data",),
        quantity="counts",
        zero_frequency="corner",
        positions=(("scan",),),
        unit="px",
        probe=("probe",),
    ),
)
"""In the order in which they are tried. What none of them is, is read by usual names."""

# --- usual names: the last part of a key, in small letters -----------------------------------

PATTERNS = (
    *("intensity", "intensities", "diffraction", "diff3d", "patterns", "diffraction_patterns", "ptychogram"),
    *("dp", "dps", "data", "counts", "measurements", "reciprocal", "amplitude", "amplitudes"),
)
AMPLITUDES = ("diff3d", "amplitude", "amplitudes", "diffraction_amplitude")
COUNTS = ("intensity", "intensities", "counts", "ptychogram", "dp", "dps")
POSITIONS = (
    *("positions", "position", "scan", "pos", "probe_positions", "scan_positions", "coords", "translation"),
    "positions_px",
)
ROWS_COLS = (
    *(("ycoords", "xcoords"), ("rows", "cols"), ("row", "col"), ("y", "x"), ("pos_y", "pos_x")),
    *(("positions_y", "positions_x"), ("y_px", "x_px"), ("y_m", "x_m"), ("y_um", "x_um"), ("y_nm", "x_nm")),
)
PROBES = ("probe", "probeguess", "probe0", "probe_guess", "illumination", "probes")
BAD = ("bad_pixels", "bad_mask", "dead_pixels")
MASKS = ("mask", "valid", "valid_mask", "pixel_mask", "detector_mask", *BAD)

_SPELT = {"m": "metre meter", "um": "µm micron micrometer micrometre", "px": "pixel"}
UNIT_WORDS = {
    word: unit
    for unit in UNITS
    for name in (unit, *_SPELT.get(unit, "").split())
    for word in (name, f"{name}s")
}

# Names of single numbers, and what turns them into eV and metres; '*' is anything.
_JOULE = 6.241509e18
ENERGIES = {"*/source_1/energy": _JOULE, "meta/energy": 1e3, "common/energy": 1e3, "energy_j": _JOULE}
ENERGIES |= {"energy_ev": 1.0, "photon_energy_ev": 1.0, "probe_energy_ev": 1.0, "energy_kev": 1e3}
ENERGIES |= {"probe_energy_eV": 1.0, "photon_energy_eV": 1.0}
WAVELENGTHS = {"wavelength_m": 1.0, "wavelength": 1.0, "lambda_m": 1.0, "lambda": 1.0, "wavelength_nm": 1e-9}
DISTANCES = {"*/detector_1/distance": 1.0, "meta/distance": 1.0, "common/distance": 1.0, "zo": 1.0}
DISTANCES |= {"detector_object_distance_m": 1.0, "distance_m": 1.0, "detector_distance_m": 1.0}
DISTANCES |= {"distance_mm": 1e-3}
PIXELS = {"*/detector_1/x_pixel_size": 1.0, "meta/psize": 1.0, "common/psize": 1.0, "dxd": 1.0}
PIXELS |= {"detector_pixel_m": 1.0, "detector_pixel_size_m": 1.0, "detector_pixel_um": 1e-6}

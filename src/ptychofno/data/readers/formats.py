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


@dataclass(frozen=True)
class Format:
    """Where a kind of file keeps what. Of several names the first that is there counts; ``*`` is anything."""

    name: str
    patterns: Names = ()
    positions: Sequence[Names] = ()  # each a name of (row, col) pairs, or the names of rows and of columns
    known_by: Sequence[Names] = ()  # a name of each is there; () means patterns and positions
    chunks: bool = False  # whether all keys that a name of patterns or positions fits follow one another
    numbers: Names = ()  # of the patterns
    numbers_of_positions: Names = ()  # the patterns they belong to
    quantity: str | None = None
    zero_frequency: str | None = None
    unit: str | None = None
    turned: Callable[[Source, np.ndarray], np.ndarray] | None = None  # to (row, col) of the probe
    probe: Names = ("probe",)
    probe_pixel_m: Names = ()
    object_pixel_m: Names = ()
    mask: Names = ()
    mask_means: str | None = None
    mask_bits: int | None = None  # those that count where a mask has several; None for all

    def fits(self, source: Source) -> bool:
        """Whether a file has the keys of this format."""
        names = self.known_by or (self.patterns, *((name,) for name in self.positions[0]))
        return all(source.find(*each) for each in names if each)


def _probe_against_sample(source: Source, translation: np.ndarray) -> np.ndarray:
    """CXI has the sample's (x, y, z), against which the probe moves. Rows and columns of the detector run
    along its basis vectors, by default against y and x, as in cdtools."""
    axes = np.array([[0.0, -1, 0], [-1, 0, 0]])
    if (basis := source.find("entry_*/instrument_1/detector_1/basis_vectors")) is not None:
        vectors = source.reals(basis)
        vectors = vectors.T if vectors.shape == (2, 3) else vectors
        axes = (vectors / np.linalg.norm(vectors, axis=0)).T
    return -translation @ axes[:, : translation.shape[-1]].T


_DETECTOR = "entry_*/instrument_1/detector_1"
_CXI_PATTERNS = (f"{_DETECTOR}/data", "entry_*/data_1/data")
_CXI_POSITIONS = tuple(
    f"entry_*/{name}/translation" for name in ("sample_1/geometry_1", "data_1", "instrument_1/detector_1")
)
_CXI = Format(
    "CXI",
    _CXI_PATTERNS,
    [(name,) for name in _CXI_POSITIONS],
    known_by=((*_CXI_PATTERNS, *_CXI_POSITIONS),),
    numbers_of_positions=("entry_*/ptychodus/probe_position_indexes",),
    quantity="counts",
    unit="m",
    turned=_probe_against_sample,
    probe=tuple(
        f"entry_*/instrument_1/{name}" for name in ("source_1/probe", "probe", "source_1/illumination")
    ),
    mask=(f"{_DETECTOR}/mask", f"{_DETECTOR}/mask_shared"),
    mask_means="bad",
    mask_bits=~0x1000,  # a pixel with signal; every other bit says what is wrong with it
)
_PTYPY = Format(
    "ptypy data",
    ("chunks/*/data",),
    (("chunks/*/positions",),),
    known_by=(("chunks/*/data",),),
    chunks=True,
    quantity="counts",
    unit="m",
    mask=("chunks/*/weights", "meta/weight2d", "common/weight2d"),
    mask_means="valid",
)
_PTYPY_PROBE = Format(
    "ptypy reconstruction",
    known_by=(("content/probe/*/data",),),
    probe=("content/probe/*/data",),
    probe_pixel_m=("content/probe/*/_psize", "content/probe/*/psize"),
)
_PTYCHODUS = Format(
    "ptychodus product",
    positions=(("probe_position_y_m", "probe_position_x_m"),),
    numbers_of_positions=("probe_position_indexes",),
    unit="m",
    probe_pixel_m=("probe_pixel_height_m", "probe/pixel_height_m", "object/pixel_height_m"),
    object_pixel_m=("object_pixel_height_m", "object/pixel_height_m", "probe_pixel_height_m"),
)
_PTYCHODUS_PATTERNS = Format(
    "ptychodus patterns",
    ("patterns",),
    known_by=(("patterns",), ("indexes", "bad_pixels")),
    numbers=("indexes",),
    quantity="counts",
    mask=("bad_pixels",),
    mask_means="bad",
)
# The motion of the sample, here x before y; in other versions each in an array of its own.
_FOLD_SLICE = Format(
    "fold_slice parameters",
    positions=(("probe_positions_0",),),
    turned=lambda source, found: -found[:, ::-1],
    object_pixel_m=("dx", "dx_spec"),
)
_PTYCHOPINN = Format(
    "PtychoPINN",
    ("diff3d", "diffraction"),
    (("ycoords", "xcoords"),),
    quantity="amplitude",
    zero_frequency="centre",
    unit="px",
    probe=("probeGuess",),
)

FORMATS = (
    # Of two images the second is the object, as ptychodus has it; a single one is the object itself.
    replace(
        _CXI,
        known_by=(*_CXI.known_by, ("entry_*/image_2/data",)),
        probe=(*_CXI.probe, "entry_*/image_1/data"),
    ),
    _CXI,
    _PTYPY,
    _PTYPY_PROBE,
    _PTYCHODUS,
    _PTYCHODUS_PATTERNS,
    _FOLD_SLICE,
    replace(_FOLD_SLICE, positions=(("ppY", "ppX"),), turned=lambda source, found: -found),
    Format("PtyLab", ("ptychogram",), (("encoder",),), quantity="counts", unit="m"),
    _PTYCHOPINN,
    Format("PtychoNN", ("reciprocal",), (("position",),)),
    Format("tike", ("data",), (("scan",),), quantity="counts", zero_frequency="corner", unit="px"),
)
"""In the order in which they are tried. What none of them is, is read by usual names."""

# --- usual names: the last part of a key, in small letters -----------------------------------

PATTERNS = (
    *("intensity", "intensities", "diffraction", "diff3d", "patterns", "diffraction_patterns", "ptychogram"),
    *("dp", "dps", "data", "counts", "measurements", "reciprocal", "amplitude", "amplitudes"),
)
QUANTITIES = {
    "amplitude": ("diff3d", "amplitude", "amplitudes", "diffraction_amplitude"),
    "counts": ("intensity", "intensities", "counts", "ptychogram", "dp", "dps"),
}
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

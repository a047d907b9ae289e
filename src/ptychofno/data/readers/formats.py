"""The formats that are known, each one function from an open file to what it tells: ``RawScan | None``.

None means: another format. A format is recognised by its keys, never by the name of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ptychofno.data.readers.frames import Frames, frames
from ptychofno.data.readers.keys import guess, modes, pairs
from ptychofno.data.readers.scan import HC_EV_M, JOULE_EV, Modes, PixelMask, Positions, RawScan
from ptychofno.data.readers.source import Source

_OF_FORMAT = "its format"
"""Stands for the setting that asked for a key."""

_CXI_GOOD_BIT = 0x1000
"""CXI: a pixel with signal; every other bit of a mask says what is wrong with it."""


def cxi(source: Source) -> RawScan | None:
    """CXI. Translations are the sample's, so that the probe moves against them; rows and columns of the
    detector run along its basis vectors, by default against y and x, as in cdtools."""
    entry = next((key.split("/")[0] for key in source.keys if key.startswith("entry_")), None)
    if entry is None:
        return None
    detector, geometry = f"{entry}/instrument_1/detector_1", f"{entry}/sample_1/geometry_1"
    data = source.find(f"{detector}/data", f"{entry}/data_1/data")
    moved = source.find(f"{geometry}/translation", f"{entry}/data_1/translation", f"{detector}/translation")
    if data is None and moved is None:
        return None
    positions = None
    if moved is not None:
        shift = source.reals(moved, _OF_FORMAT)
        axes = np.array([[0.0, -1, 0], [-1, 0, 0]])
        if (basis := source.find(f"{detector}/basis_vectors")) is not None:
            vectors = source.reals(basis, _OF_FORMAT)
            vectors = vectors.T if vectors.shape == (2, 3) else vectors
            axes = (vectors / np.linalg.norm(vectors, axis=0)).T
        rows_cols = -shift.reshape(-1, shift.shape[-1]) @ axes[:, : shift.shape[-1]].T
        index = source.find(f"{entry}/ptychodus/probe_position_indexes")
        numbers = None if index is None else source.array(index, _OF_FORMAT)
        positions = Positions(rows_cols, f"{source.label}: '{moved}'", "m", numbers)
    # A second image is the object, as ptychodus has it; a single one is the object itself.
    image = [f"{entry}/image_1/data"] if source.find(f"{entry}/image_2/data") else []
    places = ("instrument_1/source_1/probe", "instrument_1/probe", "instrument_1/source_1/illumination")
    mask = None
    if (key := source.find(f"{detector}/mask", f"{detector}/mask_shared")) is not None:
        bits = source.array(key, _OF_FORMAT)
        mask = PixelMask(
            (bits.astype(np.int64) & ~_CXI_GOOD_BIT) != 0, f"{source.label}: mask '{key}'", "bad"
        )
    joules = source.number(f"{entry}/instrument_1/source_1/energy", f"{entry}/source_1/energy")
    return RawScan(
        "CXI",
        patterns=None if data is None else frames(source, data, _OF_FORMAT),
        quantity="counts",
        positions=positions,
        probe=_first_modes(source, *(f"{entry}/{place}" for place in places), *image),
        mask=mask,
        energy_ev=None if joules is None else joules * JOULE_EV,
        distance_m=source.number(f"{detector}/distance"),
        detector_pixel_m=source.number(f"{detector}/x_pixel_size"),
    )


def ptypy_data(source: Source) -> RawScan | None:
    """ptypy's .ptyd: chunks of patterns with weights and positions in metres."""
    chunks = sorted({key.split("/")[1] for key in source.keys if key.startswith("chunks/")}, key=_natural)
    chunks = [chunk for chunk in chunks if f"chunks/{chunk}/data" in source.keys]
    if not chunks:
        return None
    stacks = [frames(source, f"chunks/{chunk}/data", _OF_FORMAT) for chunk in chunks]
    first = f"chunks/{chunks[0]}"
    positions = None
    if all(f"chunks/{chunk}/positions" in source.keys for chunk in chunks):
        values = np.concatenate([source.reals(f"chunks/{chunk}/positions", _OF_FORMAT) for chunk in chunks])
        positions = Positions(values, f"{source.label}: '{first}/positions'", "m")
    mask, key = None, source.find(f"{first}/weights", "meta/weight2d", "common/weight2d")
    if key is not None:
        weights = frames(source, key, _OF_FORMAT).sample(16)
        mask = PixelMask(np.all(weights > 0, axis=0), f"{source.label}: '{key}'", "valid")
    kiloelectronvolts = source.number("meta/energy", "common/energy")
    propagation = source.attributes("meta").get("propagation", "")
    return RawScan(
        "ptypy data",
        patterns=Frames(sum((stack.parts for stack in stacks), ()), stacks[0].where),
        quantity="counts",
        positions=positions,
        mask=mask,
        energy_ev=None if kiloelectronvolts is None else kiloelectronvolts * 1e3,
        distance_m=source.number("meta/distance", "common/distance"),
        detector_pixel_m=_side(source, "meta/psize", "common/psize"),
        near_field="meta/propagation" if "near" in str(propagation).lower() else None,
    )


def ptypy_reconstruction(source: Source) -> RawScan | None:
    """ptypy's .ptyr: the probe of a reconstruction."""
    key = next((k for k in source.keys if k.startswith("content/probe/") and k.endswith("/data")), None)
    if key is None:
        return None
    pixel = _side(source, key.replace("/data", "/_psize"), key.replace("/data", "/psize"))
    return RawScan("ptypy reconstruction", probe=modes(source, key, _OF_FORMAT, pixel))


def ptychodus_product(source: Source) -> RawScan | None:
    """A product of ptychodus, pty-chi or PtychoShelves: all but the patterns, x being the column."""
    key_x, key_y = "probe_position_x_m", "probe_position_y_m"
    if key_x not in source.keys or key_y not in source.keys:
        return None
    y, x = (source.reals(key, _OF_FORMAT).reshape(-1) for key in (key_y, key_x))
    index = None
    if "probe_position_indexes" in source.keys:
        index = source.array("probe_position_indexes", _OF_FORMAT)
    where = f"{source.label}: '{key_y}', '{key_x}'"
    pixel = source.number("probe_pixel_height_m", "probe/pixel_height_m", "object/pixel_height_m")
    return RawScan(
        "ptychodus product",
        positions=Positions(pairs(y, x, where), where, "m", index),
        probe=_first_modes(source, "probe", pixel_m=pixel),
        energy_ev=source.number("probe_energy_eV", "photon_energy_eV"),
        distance_m=source.number("detector_object_distance_m"),
        object_pixel_m=source.number("object_pixel_height_m", "object/pixel_height_m") or pixel,
        near_field="far_field" if source.attributes("").get("far_field", True) in (False, 0) else None,
    )


def ptychodus_patterns(source: Source) -> RawScan | None:
    """The patterns of ptychodus with their numbers and bad pixels."""
    if "patterns" not in source.keys or not {"indexes", "bad_pixels"} & set(source.keys):
        return None
    bad = None
    if "bad_pixels" in source.keys:
        values = source.array("bad_pixels", _OF_FORMAT)
        bad = PixelMask(values, f"{source.label}: mask 'bad_pixels'", "bad")
    return RawScan(
        "ptychodus patterns",
        patterns=frames(source, "patterns", _OF_FORMAT),
        pattern_index=source.array("indexes", _OF_FORMAT) if "indexes" in source.keys else None,
        quantity="counts",
        mask=bad,
    )


def fold_slice_parameters(source: Source) -> RawScan | None:
    """fold_slice's *_para.hdf5: probe, positions (x, y) against the probe's motion, wavelength and pixel."""
    stacked = source.find("probe_positions_0")
    if stacked is None and not {"ppX", "ppY"} <= set(source.keys):
        return None
    if stacked is not None:
        xy, where = source.reals(stacked, _OF_FORMAT), f"{source.label}: '{stacked}'"
        x, y = xy if xy.shape[0] == 2 else xy.T
    else:
        x, y = (source.reals(key, _OF_FORMAT).reshape(-1) for key in ("ppX", "ppY"))
        where = f"{source.label}: 'ppY', 'ppX'"
    wavelength = source.number("lambda")
    return RawScan(
        "fold_slice parameters",
        positions=Positions(pairs(-y, -x, where), where),
        probe=_first_modes(source, "probe"),
        energy_ev=None if wavelength is None or wavelength > 1e-6 else HC_EV_M / wavelength,
        object_pixel_m=source.number("dx", "dx_spec"),
    )


def ptylab(source: Source) -> RawScan | None:
    """PtyLab's HDF5: ``ptychogram`` and ``encoder`` (row, col) in metres."""
    if not {"ptychogram", "encoder"} <= set(source.keys):
        return None
    encoder, where = source.reals("encoder", _OF_FORMAT), f"{source.label}: 'encoder'"
    wavelength = source.number("wavelength")
    return RawScan(
        "PtyLab",
        patterns=frames(source, "ptychogram", _OF_FORMAT, len(encoder)),
        quantity="counts",
        positions=Positions(encoder.reshape(-1, 2), where, "m"),
        probe=_first_modes(source, "probe"),
        energy_ev=None if wavelength is None else HC_EV_M / wavelength,
        distance_m=source.number("zo"),
        detector_pixel_m=source.number("dxd"),
    )


def tike(source: Source) -> RawScan | None:
    """tike's NPZ: ``data`` of counts, ``scan`` (row, col) in object pixels."""
    if not {"data", "scan"} <= set(source.keys):
        return None
    scan = source.reals("scan", _OF_FORMAT)
    if scan.shape[-1] != 2:
        return None
    return RawScan(
        "tike",
        patterns=frames(source, "data", _OF_FORMAT, scan.size // 2),
        quantity="counts",
        zero_frequency="corner",
        positions=Positions(scan.reshape(-1, 2), f"{source.label}: 'scan'", "px"),
        probe=_first_modes(source, "probe"),
    )


def ptychopinn(source: Source) -> RawScan | None:
    """PtychoPINN's NPZ: amplitudes, positions in object pixels."""
    data = source.find("diff3d", "diffraction")
    if data is None or not {"xcoords", "ycoords"} <= set(source.keys):
        return None
    rows, cols = (
        source.array(key, _OF_FORMAT).reshape(-1).astype(np.float64) for key in ("ycoords", "xcoords")
    )
    where = f"{source.label}: 'ycoords', 'xcoords'"
    domain = source.attributes("").get("measurement_domain", "")
    return RawScan(
        "PtychoPINN",
        patterns=frames(source, data, _OF_FORMAT, len(rows)),
        quantity="counts" if str(domain) in ("counts", "intensity") else "amplitude",
        zero_frequency="centre",
        positions=Positions(pairs(rows, cols, where), where, "px"),
        probe=_first_modes(source, "probeGuess"),
    )


def ptychonn(source: Source) -> RawScan | None:
    """PtychoNN's NPZ: ``reciprocal`` patterns, ``position`` (row, col)."""
    if not {"reciprocal", "position"} <= set(source.keys):
        return None
    position = source.reals("position", _OF_FORMAT)
    rows_cols = position.reshape(-1, 2) if position.shape[-1] == 2 else position.reshape(2, -1).T
    return RawScan(
        "PtychoNN",
        patterns=frames(source, "reciprocal", _OF_FORMAT, len(rows_cols)),
        positions=Positions(rows_cols, f"{source.label}: 'position'"),
        probe=_first_modes(source, "probe"),
    )


class Format(NamedTuple):
    """A known format: its name, and what reads it."""

    name: str
    read: Callable[[Source], RawScan | None]


FORMATS = (
    Format("CXI", cxi),
    Format("ptypy data (.ptyd)", ptypy_data),
    Format("ptypy reconstruction (.ptyr)", ptypy_reconstruction),
    Format("ptychodus product", ptychodus_product),
    Format("ptychodus patterns", ptychodus_patterns),
    Format("fold_slice parameters", fold_slice_parameters),
    Format("PtyLab", ptylab),
    Format("PtychoPINN", ptychopinn),
    Format("PtychoNN", ptychonn),
    Format("tike", tike),
    Format("arrays by their names and shapes", guess),
)
"""In the order in which they are tried; the last takes every file."""


_SURROUNDINGS = ("mask", "energy_ev", "distance_m", "detector_pixel_m")


def recognised(source: Source) -> RawScan:
    """What a file tells, read as the first format that knows it; what stands beside that by its names."""
    found = next(scan for form in FORMATS if (scan := form.read(source)) is not None)
    lacking = [name for name in _SURROUNDINGS if getattr(found, name) is None]
    beside = guess(source)
    return replace(found, **{name: getattr(beside, name) for name in lacking})


def _first_modes(source: Source, *keys: str, pixel_m: float | None = None) -> Modes | None:
    key = source.find(*keys)
    return None if key is None else modes(source, key, _OF_FORMAT, pixel_m)


def _side(source: Source, *keys: str) -> float | None:
    """The first of one or two sides of a pixel."""
    key = source.find(*keys)
    if key is None:
        return source.number(*keys)
    sides = source.array(key, _OF_FORMAT).reshape(-1)
    return float(sides[0]) if sides.size and sides[0] > 0 else None


def _natural(text: str) -> tuple[int, str]:
    return (int(text) if text.isdigit() else -1, text)

"""Arrays found by what they are called and by their shapes, and as the layout of a scan names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from ptychofno.data.readers.frames import frames
from ptychofno.data.readers.scan import HC_EV_M, JOULE_EV, UNITS, Modes, PixelMask, Positions, RawScan
from ptychofno.data.readers.source import (
    Lazy,
    Source,
    complex_fields,
    lazy_size,
    require_finite,
    require_scale,
)

_GUESS = "found by its name"

_PATTERNS = (
    *("intensity", "intensities", "diffraction", "diff3d", "patterns", "diffraction_patterns", "ptychogram"),
    *("dp", "dps", "data", "counts", "measurements", "reciprocal", "amplitude", "amplitudes"),
)
_AMPLITUDES = ("diff3d", "amplitude", "amplitudes", "diffraction_amplitude")
_POSITIONS = (
    *("positions", "position", "scan", "pos", "probe_positions", "scan_positions", "coords", "translation"),
    "positions_px",
)
_ROWS_COLS = (
    *(("ycoords", "xcoords"), ("rows", "cols"), ("row", "col"), ("y", "x"), ("pos_y", "pos_x")),
    *(("positions_y", "positions_x"), ("y_px", "x_px"), ("y_m", "x_m"), ("y_um", "x_um"), ("y_nm", "x_nm")),
)
_PROBES = ("probe", "probeguess", "probe0", "probe_guess", "illumination", "probes")
_BAD = ("bad_pixels", "bad_mask", "dead_pixels")
_MASKS = ("mask", "valid", "valid_mask", "pixel_mask", "detector_mask", *_BAD)
_COUNTS = ("intensity", "intensities", "counts", "ptychogram", "dp", "dps")
_ENERGIES = {"energy_ev": 1.0, "photon_energy_ev": 1.0, "probe_energy_ev": 1.0, "energy_kev": 1e3}
_ENERGIES |= {"energy_j": JOULE_EV}
_WAVELENGTHS = {"wavelength_m": 1.0, "wavelength": 1.0, "lambda_m": 1.0, "wavelength_nm": 1e-9}
_DISTANCES = {"distance_m": 1.0, "detector_distance_m": 1.0, "distance_mm": 1e-3}
_PIXELS = {"detector_pixel_m": 1.0, "detector_pixel_size_m": 1.0, "detector_pixel_um": 1e-6}
_UNIT_WORDS = {word: unit for unit in UNITS for word in (unit, f"{unit}s")} | {
    "metre": "m",
    "meter": "m",
    "metres": "m",
    "meters": "m",
    "µm": "um",
    "micron": "um",
    "microns": "um",
    "micrometer": "um",
    "pixel": "px",
    "pixels": "px",
}


class Layout(Protocol):
    """What a user says of the names and conventions of a file; None leaves it to the file."""

    @property
    def patterns_keys(self) -> list[str] | None: ...
    @property
    def quantity(self) -> str | None: ...
    @property
    def zero_frequency(self) -> str | None: ...
    @property
    def probe_key(self) -> str | None: ...
    @property
    def positions_keys(self) -> list[str] | None: ...
    @property
    def positions_unit(self) -> str | None: ...
    @property
    def mask_key(self) -> str | None: ...
    @property
    def mask_means(self) -> str | None: ...


# --- by name and shape -----------------------------------------------------------------------


def guess(source: Source) -> RawScan:
    """What the arrays of a file are, by their names, and where one of a kind is alone by their shapes."""
    arrays = {key: array for key in source.keys if (array := _readable(source, key)) is not None}
    names = {key: key.rsplit("/", 1)[-1].lower() for key in arrays}
    positions = _positions(source, arrays, names)
    count = None if positions is None else len(positions.values)
    data = _named(names, _PATTERNS, {k for k, a in arrays.items() if _is_stack(a, source)}) or _only(
        [k for k, a in arrays.items() if _is_stack(a, source) and len(a.shape) > 2]
    )
    probe = _named(names, _PROBES, {k for k, a in arrays.items() if _is_complex(a)}) or _only(
        [k for k, a in arrays.items() if _is_complex(a) and len(a.shape) >= 2 and a.shape[-1] == a.shape[-2]]
        if len(arrays) == 1
        else []
    )
    mask = _named(names, _MASKS, {k for k, a in arrays.items() if _is_image(a) and k != data})
    if len(arrays) == 1 and positions is None and probe is None and _is_image(arrays[source.keys[0]]):
        alone = source.keys[0]
        mask, data = (alone, None) if np.asarray(arrays[alone][()]).max() <= 1 else (None, alone)
    quantity = None
    if data is not None:
        kinds = {"amplitude": _AMPLITUDES, "counts": _COUNTS}
        quantity = next((kind for kind, known in kinds.items() if names[data] in known), None)
    wavelength = _scaled(source, names, _WAVELENGTHS)
    return RawScan(
        source.kind,
        patterns=None if data is None else frames(source, data, _GUESS, count),
        quantity=quantity,
        positions=positions,
        probe=None if probe is None else modes(source, probe, _GUESS),
        mask=None if mask is None else _mask(source, mask, _GUESS, "bad" if names[mask] in _BAD else None),
        energy_ev=_scaled(source, names, _ENERGIES) or (HC_EV_M / wavelength if wavelength else None),
        distance_m=_scaled(source, names, _DISTANCES),
        detector_pixel_m=_scaled(source, names, _PIXELS),
    )


def _readable(source: Source, key: str) -> Lazy | None:
    """The array under a key that nobody asked for; None where it is none."""
    try:
        return source.lazy(key)
    except ValueError:
        return None


def _named(names: dict[str, str], wanted: Sequence[str], allowed: set[str]) -> str | None:
    """The first key with one of these names, in their order."""
    keys = (key for want in wanted for key, name in names.items() if name == want and key in allowed)
    return next(keys, None)


def _only(keys: list[str]) -> str | None:
    return keys[0] if len(keys) == 1 else None


def _is_complex(array: Lazy) -> bool:
    return array.dtype.kind == "c" or complex_fields(array.dtype) is not None


def _is_stack(array: Lazy, source: Source) -> bool:
    """Whether an array may hold patterns; a single one, too, if it is a picture."""
    sides = (
        array.shape[:2] if len(array.shape) == 3 and array.shape[0] == array.shape[1] else array.shape[-2:]
    )
    table = source.kind == "table of numbers"
    return array.dtype.kind in "iuf" and len(array.shape) >= 2 and min(sides) >= 8 and not table


def _is_image(array: Lazy) -> bool:
    shape = [side for side in array.shape if side > 1]
    return len(shape) == 2 and array.dtype.kind in "biuf" and min(shape) >= 4


def _positions(source: Source, arrays: dict[str, Lazy], names: dict[str, str]) -> Positions | None:
    single = {k for k, a in arrays.items() if a.dtype.kind in "iuf" and _is_pairs(a.shape)}
    key = _named(names, _POSITIONS, single) or _only(sorted(single))
    if key is not None:
        return coordinates(source, [key], _GUESS)
    line = {
        k for k, a in arrays.items() if a.dtype.kind in "iuf" and lazy_size(a) == max(a.shape, default=0) > 1
    }
    for pair in _ROWS_COLS:
        found = [_named(names, (name,), line) for name in pair]
        if found[0] is not None and found[1] is not None:
            unit = pair[0].partition("_")[2]
            read = coordinates(source, [found[0], found[1]], _GUESS)
            return replace(read, unit=read.unit or _UNIT_WORDS.get(unit))
    return None


def _is_pairs(shape: tuple[int, ...]) -> bool:
    sides = [side for side in shape if side > 1]
    return len(sides) == 2 and (sides[1] in (2, 3) or sides[0] == 2) and max(sides) > 3


def _scaled(source: Source, names: dict[str, str], wanted: dict[str, float]) -> float | None:
    for name, factor in wanted.items():
        for key in [*(key for key, own in names.items() if own == name), name]:
            if (value := source.number(key)) is not None:
                return value * factor
    return None


# --- as the layout says ----------------------------------------------------------------------


def as_laid_out(raw: RawScan, sources: Sequence[Source], layout: Layout) -> RawScan:
    """``raw`` with what a user's layout names instead of what was found.

    Raises ValueError for a key that no file has.
    """
    prefix = "data.layout"
    if layout.positions_keys is not None:
        keys, setting = list(layout.positions_keys), f"{prefix}.positions_keys"
        if len(keys) not in (1, 2):
            raise ValueError(
                f"{setting}={keys} has {len(keys)} entries;"
                " expected one key of (row, col) pairs, or the keys of rows and of columns"
            )
        raw = replace(raw, positions=coordinates(_holder(sources, keys, setting), keys, setting))
    if layout.patterns_keys is not None:
        names, setting = list(layout.patterns_keys), f"{prefix}.patterns_keys"
        source = next((s for s in sources if s.find(*names)), None)
        if source is None:
            raise sources[0].missing(names, setting)
        count = None if raw.positions is None else len(raw.positions.values)
        raw = replace(
            raw, patterns=frames(source, source.find(*names) or "", setting, count), pattern_index=None
        )
    if layout.probe_key is not None:
        setting = f"{prefix}.probe_key"
        source = _holder(sources, [layout.probe_key], setting)
        raw = replace(raw, probe=modes(source, layout.probe_key, setting))
    if layout.mask_key is not None:
        setting = f"{prefix}.mask_key"
        source = _holder(sources, [layout.mask_key], setting)
        raw = replace(raw, mask=_mask(source, layout.mask_key, setting, None))
    if layout.mask_means is not None and raw.mask is not None:
        raw = replace(raw, mask=replace(raw.mask, means=layout.mask_means))
    if layout.positions_unit is not None and raw.positions is not None:
        raw = replace(raw, positions=replace(raw.positions, unit=layout.positions_unit))
    return replace(
        raw,
        quantity=layout.quantity or raw.quantity,
        zero_frequency=layout.zero_frequency or raw.zero_frequency,
    )


def _holder(sources: Sequence[Source], keys: list[str], setting: str) -> Source:
    """The file that has all of ``keys``."""
    for source in sources:
        if set(keys) <= set(source.keys):
            return source
    raise sources[0].missing([next(key for key in keys if key not in sources[0].keys)], setting)


# --- parts -----------------------------------------------------------------------------------


def coordinates(source: Source, keys: list[str], setting: str) -> Positions:
    """Positions under one key of pairs, or two keys of rows and of columns."""
    where = f"{source.label}: {', '.join(repr(key) for key in keys)}"
    arrays = [source.reals(key, setting) for key in keys]
    unit = str(source.attributes(keys[0]).get("units", "")).lower()
    if len(keys) == 2:
        rows, cols = (array.reshape(-1) for array in arrays)
        if any(array.size != max(array.shape, default=1) for array in arrays):
            shape = next(array.shape for array in arrays if array.size != max(array.shape, default=1))
            raise ValueError(f"{where} has shape {shape}; expected one entry per pattern")
        return Positions(pairs(rows, cols, where), where, _UNIT_WORDS.get(unit))
    return Positions(_paired(arrays[0], where), where, _UNIT_WORDS.get(unit))


def _paired(array: np.ndarray, where: str) -> np.ndarray:
    """(n, 2) of pairs that may stand the other way, have axes of length 1, or a third, constant column."""
    trimmed = array
    while trimmed.ndim > 2 and trimmed.shape[0] == 1:
        trimmed = trimmed[0]
    if trimmed.ndim == 3 and trimmed.shape[-1] == 2:  # a grid of them
        trimmed = trimmed.reshape(-1, 2)
    if trimmed.ndim == 2 and trimmed.shape[0] in (2, 3) and trimmed.shape[1] > 3:
        trimmed = trimmed.T
    if trimmed.ndim == 2 and trimmed.shape[1] == 3 and np.ptp(trimmed[:, 2]) == 0:
        trimmed = trimmed[:, :2]
    if trimmed.ndim != 2 or trimmed.shape[1] != 2:
        raise ValueError(f"{where} has shape {array.shape}; expected (n, 2), a row and a column per pattern")
    return np.ascontiguousarray(trimmed)


def pairs(rows: np.ndarray, cols: np.ndarray, where: str) -> np.ndarray:
    """(n, 2) of rows and columns."""
    if rows.shape != cols.shape:
        raise ValueError(f"{where}: {rows.size} rows and {cols.size} columns; expected as many of both")
    return np.stack([rows, cols], axis=1)


def modes(source: Source, key: str, setting: str, pixel_m: float | None = None) -> Modes:
    """The probe under ``key`` with its modes. Raises ValueError for one not complex, square and finite."""
    array, where = source.array(key, setting), f"{source.label}: probe '{key}'"
    if not np.iscomplexobj(array):
        raise ValueError(f"{where} is {array.dtype}; expected complex values")
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        raise ValueError(f"{where} has shape {array.shape}; expected a square, as (modes, N, N)")
    require_finite(array, source.label, key)
    if not array.any():
        raise ValueError(f"{where} is zero everywhere; expected an illumination")
    require_scale(float(np.abs(array).max()), where)
    # Of further axes, such as variations over the scan, the first entry counts.
    count = next((side for side in array.shape[-3::-1] if side > 1), 1)
    return Modes(array.reshape(-1, count, *array.shape[-2:])[0].astype(np.complex64), where, pixel_m)


def _mask(source: Source, key: str, setting: str, means: str | None) -> PixelMask:
    array = source.array(key, setting)
    where, shape = f"{source.label}: mask '{key}'", array.shape[-2:]
    if array.ndim < 2 or array.size != shape[0] * shape[1]:
        raise ValueError(f"{where} has shape {array.shape}; expected that of a pattern")
    return PixelMask(array.reshape(shape), where, means)

"""From open files to what they tell of a scan: one way for every format.

A file is taken for a ``Format``: a known one, or the usual names that it has. What the layout of a scan
names takes the place of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from ptychofno.data.readers import formats
from ptychofno.data.readers.files import TABLE, open_source
from ptychofno.data.readers.formats import FORMATS, Format
from ptychofno.data.readers.scan import HC_EV_M, Modes, PixelMask, Positions, RawScan, frames, joined, merged
from ptychofno.data.readers.source import Lazy, Source, is_complex, require_finite, require_scale, size_of
from ptychofno.data.settings import MeasuredLayout

_LONGEST_WAVELENGTH_M = 1e-4
_MASKS_SAMPLED = 16


@contextmanager
def open_scan(path: str, also: Sequence[str], layout: MeasuredLayout | None) -> Iterator[RawScan]:
    """What ``data.path`` and ``data.also`` tell of one scan, and its layout instead; patterns are read later.

    Raises ValueError with one line naming file, key and index of whatever is unusable.
    """
    with ExitStack() as stack:
        named = [(path, "data.path"), *((other, "data.also") for other in also)]
        sources = [stack.enter_context(open_source(file, setting)) for file, setting in named]
        forms: Sequence[Format] = [recognised(source) for source in sources]
        if layout is not None:
            forms = laid_out(forms, sources, layout)
        yield joined(merged([read_as(form, source) for form, source in zip(forms, sources, strict=True)]))


def recognised(source: Source) -> Format:
    """The first format that a file has the keys of, and a mask beside it by its name; else usual names."""
    usual = _by_usual_names(source)
    found = next((form for form in FORMATS if form.fits(source)), usual)
    if source.find(*found.mask) is None:
        found = replace(found, mask=usual.mask, mask_means=None, mask_bits=None)
    counts = str(source.attributes("").get("measurement_domain")) in ("counts", "intensity")
    return replace(found, quantity="counts") if counts else found


def _by_usual_names(source: Source) -> Format:
    """What the arrays of a file are, by their names, and where one of a kind is alone by their shapes."""
    arrays = {key: array for key in source.keys if (array := _readable(source, key)) is not None}

    def chosen(fits: Callable[[Lazy], bool], names: Sequence[str], *, alone: bool = False) -> list[str]:
        """The first key with one of these names, in their order, or else the only one that fits."""
        keys = [key for key, array in arrays.items() if fits(array)]
        named = [key for name in names for key in keys if _last(key) == name]
        return named[:1] or (keys if alone and len(keys) == 1 else [])

    pairs = ([key for name in pair for key in chosen(_is_line, [name])] for pair in formats.ROWS_COLS)
    positions = chosen(_is_pairs, formats.POSITIONS, alone=True)
    positions = positions or next((pair for pair in pairs if len(pair) == 2), [])
    patterns: list[str] = []
    if source.kind != TABLE:
        patterns = chosen(_is_stack, formats.PATTERNS)
        patterns = patterns or chosen(lambda a: len(a.shape) > 2 and _is_stack(a), (), alone=True)
    probe = chosen(lambda array: is_complex(array.dtype), formats.PROBES)
    mask = [key for key in chosen(_is_image, formats.MASKS) if key not in patterns]
    if len(arrays) == 1 and not positions and not probe:
        ((key, array),) = arrays.items()
        if is_complex(array.dtype) and len(array.shape) >= 2 and array.shape[-1] == array.shape[-2]:
            probe = [key]
        elif _is_image(array):
            mask, patterns = ([key], []) if np.asarray(array[()]).max() <= 1 else ([], [key])
    unit = None
    if len(positions) == 2 and "units" not in source.attributes(positions[0]):
        unit = formats.UNIT_WORDS.get(_last(positions[0]).partition("_")[2])
    places = [tuple(positions)] if positions else []
    return Format(source.kind, tuple(patterns), places, unit=unit, probe=tuple(probe), mask=tuple(mask))


def _readable(source: Source, key: str) -> Lazy | None:
    """The array under a key that nobody asked for; None where it is none."""
    try:
        return source.lazy(key)
    except ValueError:
        return None


def _last(key: str) -> str:
    return key.rpartition("/")[2].lower()


def _is_stack(array: Lazy) -> bool:
    """Whether an array may hold patterns; a single one, too, if it is a picture."""
    shape = array.shape
    sides = shape[:2] if len(shape) == 3 and shape[0] == shape[1] else shape[-2:]
    return array.dtype.kind in "iuf" and len(shape) >= 2 and min(sides) >= 8


def _is_image(array: Lazy) -> bool:
    shape = [side for side in array.shape if side > 1]
    return len(shape) == 2 and array.dtype.kind in "biuf" and min(shape) >= 4


def _is_pairs(array: Lazy) -> bool:
    sides = [side for side in array.shape if side > 1]
    paired = len(sides) == 2 and (sides[1] in (2, 3) or sides[0] == 2) and max(sides) > 3
    return paired and array.dtype.kind in "iuf"


def _is_line(array: Lazy) -> bool:
    return array.dtype.kind in "iuf" and size_of(array) == max(array.shape, default=0) > 1


# --- what the layout names -------------------------------------------------------------------

_UNTOLD: dict[str, dict[str, Any]] = {
    "patterns": {"patterns": (), "numbers": ()},
    "positions": {"positions": (), "numbers_of_positions": (), "unit": None, "turned": None},
    "probe": {"probe": (), "probe_pixel_m": ()},
    "mask": {"mask": (), "mask_means": None, "mask_bits": None},
}


def laid_out(forms: Sequence[Format], sources: Sequence[Source], layout: MeasuredLayout) -> Sequence[Format]:
    """The formats with the keys that a layout names instead. Raises ValueError for a key that no file has."""
    typed = {
        "patterns": ("patterns_keys", layout.patterns_keys),
        "positions": ("positions_keys", layout.positions_keys),
        "probe": ("probe_key", None if layout.probe_key is None else [layout.probe_key]),
        "mask": ("mask_key", None if layout.mask_key is None else [layout.mask_key]),
    }
    for part, (setting, keys) in typed.items():
        if keys is None:
            continue
        enough = any if part == "patterns" else all
        holder = next((s for s in sources if enough(key in s.arrays for key in keys)), None)
        if holder is None:
            lacking = [key for key in keys if key not in sources[0].arrays]
            raise sources[0].missing(lacking, f"data.layout.{setting}")
        told = {part: (tuple(keys),) if part == "positions" else tuple(keys)}
        forms = [
            replace(form, **_UNTOLD[part] | (told if source is holder else {}))
            for form, source in zip(forms, sources, strict=True)
        ]
    said: dict[str, Any] = {
        "quantity": layout.quantity,
        "zero_frequency": layout.zero_frequency,
        "unit": layout.positions_unit,
        "mask_means": layout.mask_means,
    }
    return [replace(form, **{name: value for name, value in said.items() if value}) for form in forms]


def read_as(form: Format, source: Source) -> RawScan:
    """What a file tells as this format; the patterns stay unread. Raises ValueError naming key and index."""
    patterns = _present(source, form.patterns, every=form.chunks)
    quantity = form.quantity
    if patterns and quantity is None:
        quantity = next(
            (kind for kind, names in formats.QUANTITIES.items() if _last(patterns[0]) in names), None
        )
    probe, pixel_m = source.find(*form.probe), dict.fromkeys(form.probe_pixel_m, 1.0)
    numbers = source.find(*form.numbers)
    energy_ev, wavelength_m = _scaled(source, formats.ENERGIES), _scaled(source, formats.WAVELENGTHS)
    if energy_ev is None and wavelength_m is not None and wavelength_m < _LONGEST_WAVELENGTH_M:
        energy_ev = HC_EV_M / wavelength_m
    return RawScan(
        form.name,
        patterns=frames(source, patterns) if patterns else None,
        pattern_index=None if numbers is None else source.array(numbers),
        quantity=quantity,
        zero_frequency=form.zero_frequency,
        positions=_positions(form, source),
        probe=None if probe is None else modes(source, probe, _scaled(source, pixel_m)),
        mask=_mask(form, source),
        energy_ev=energy_ev,
        distance_m=_scaled(source, formats.DISTANCES),
        detector_pixel_m=_scaled(source, formats.PIXELS),
        object_pixel_m=_scaled(source, dict.fromkeys(form.object_pixel_m, 1.0)),
        near_field=_near_field(source),
    )


def _present(source: Source, names: Sequence[str], *, every: bool) -> list[str]:
    """The first key that the names stand for, or every one of the first name that stands for some."""
    found = next((keys for name in names if (keys := source.matching(name))), [])
    return found if every else found[:1]


def _positions(form: Format, source: Source) -> Positions | None:
    for names in form.positions:
        found = [_present(source, (name,), every=form.chunks) for name in names]
        if all(found):
            break
    else:
        return None
    first = [keys[0] for keys in found]
    where = f"{source.label}: {', '.join(map(repr, first))}"
    read = [[source.reals(key) for key in keys] for keys in found]
    if len(found) == 2:
        values = _rows_and_cols(read[0][0], read[1][0], where)
    else:
        values = _columns(read[0][0] if len(read[0]) == 1 else np.concatenate(read[0]))
    if form.turned is not None and values.ndim == 2 and values.shape[1] in (2, 3):
        values = form.turned(source, values)
    if values.ndim == 2 and values.shape[1] == 3 and np.ptp(values[:, 2]) == 0:
        values = values[:, :2]
    if values.ndim != 2 or values.shape[1] != 2:
        shape = read[0][0].shape
        raise ValueError(f"{where} has shape {shape}; expected (n, 2), a row and a column per pattern")
    unit = form.unit or formats.UNIT_WORDS.get(str(source.attributes(first[0]).get("units", "")).lower())
    index = source.find(*form.numbers_of_positions)
    numbers = None if index is None else source.array(index)
    return Positions(np.ascontiguousarray(values), where, unit, numbers)


def _rows_and_cols(rows: np.ndarray, cols: np.ndarray, where: str) -> np.ndarray:
    """(n, 2) of two arrays that hold one entry per pattern."""
    for array in (rows, cols):
        if array.size != max(array.shape, default=1):
            raise ValueError(f"{where} has shape {array.shape}; expected one entry per pattern")
    if rows.size != cols.size:
        raise ValueError(f"{where}: {rows.size} rows and {cols.size} columns; expected as many of both")
    return np.stack([rows.reshape(-1), cols.reshape(-1)], axis=1)


def _columns(array: np.ndarray) -> np.ndarray:
    """(n, 2 or 3) of pairs that may stand the other way, on a grid, or have axes of length 1."""
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and 2 in (array.shape[0], array.shape[2]):
        array = array.reshape(-1, 2) if array.shape[2] == 2 else array.reshape(2, -1)
    return array.T if array.ndim == 2 and array.shape[0] in (2, 3) and array.shape[1] > 3 else array


def modes(source: Source, key: str, pixel_m: float | None = None) -> Modes:
    """The probe under ``key`` with its modes. Raises ValueError for one not complex, square and finite."""
    array, where = source.array(key), f"{source.label}: probe '{key}'"
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


def _mask(form: Format, source: Source) -> PixelMask | None:
    """The mask, of several that of the pixels that are valid in all of them."""
    key = source.find(*form.mask)
    if key is None:
        return None
    where, stack = f"{source.label}: mask '{key}'", frames(source, [key]).sample(_MASKS_SAMPLED)
    marked = (stack if form.mask_bits is None else stack.astype(np.int64) & form.mask_bits) != 0
    means = form.mask_means or ("bad" if _last(key) in formats.BAD else None)
    if len(marked) > 1 and means is None:
        raise ValueError(f"{where} has {len(marked)} images; expected one of the size of a pattern")
    return PixelMask(marked.all(axis=0) if means == "valid" else marked.any(axis=0), where, means)


def _scaled(source: Source, wanted: Mapping[str, float]) -> float | None:
    """The first number under one of these names, or one whose last part is that, times its factor."""
    for name, factor in wanted.items():
        ending = [key for key in source.arrays if _last(key) == name]
        for key in (*source.matching(name), *ending, name):
            if (value := source.number(key)) is not None:
                return value * factor
    return None


def _near_field(source: Source) -> str | None:
    """Where a file says that its patterns are near field."""
    if "near" in str(source.attributes("meta").get("propagation", "")).lower():
        return "meta/propagation"
    return "far_field" if source.attributes("").get("far_field", True) in (False, 0) else None

"""What a file of a measured scan holds, and how to go on with it: ``python -m ptychofno.inspect FILE …``."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ptychofno.config.errors import ConfigError, exit_codes
from ptychofno.display.text import aligned, counted, make_console, printable

if TYPE_CHECKING:
    from rich.console import Console

    from ptychofno.data.preparation import Prepared
    from ptychofno.data.readers import Lazy, RawScan, Source

_USAGE = """\
Names all arrays of the files with shape, type and range, says which format they are taken for and what is
known of the scan, draws the mean pattern with its mask, the scan path and the probe, and ends with the lines
that reconstruct it and train on it. Several files of one scan are given together, that of the patterns first:

  python -m ptychofno.inspect patterns.npy positions.csv probe.npz

SETTING=VALUE says what the files do not, as in training: data.N=128, data.geometry.energy_ev=8333,
data.layout.patterns_keys=[entry/data], data.detector.centre=mass."""

_SAMPLED = 16
_LARGEST_WHOLE = 2**24
_MOST_ROWS, _MOST_ATTRIBUTES = 60, 20


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ptychofno.inspect",
        description="Look into the files of a measured scan.",
        epilog=_USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", metavar="FILE|SETTING=VALUE", nargs="+", help="see below")
    parser.add_argument(
        "--picture", metavar="PNG", type=Path, help="where to draw (default: outputs/inspect/FILE.png)"
    )
    args = parser.parse_intermixed_args(argv)
    typed = [word for word in args.words if word.partition("=")[0].startswith("data.")]
    files = [word for word in args.words if word not in typed]
    with exit_codes():
        if not files:
            raise ConfigError("expected a file, and only settings were given")
        try:
            inspect(files, typed, args.picture)
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(str(error)) from error


def inspect(files: Sequence[str], typed: Sequence[str], picture: Path | None) -> None:
    """Print what is in the files, what they are taken for and how to go on, and draw it."""
    from ptychofno.config.composition import compose
    from ptychofno.config.records import settings
    from ptychofno.data.preparation import prepare
    from ptychofno.data.readers import open_scan, open_source

    overrides = _overrides(files, typed)
    data = settings(compose(["data=measured", *overrides])).data
    console = make_console()
    with console.status("reading"):
        for number, path in enumerate(files):
            with open_source(path, "data.also" if number else "data.path") as source:
                _show_file(console, path, source)
    with console.status("reading"), open_scan(data.path, data.also, data.layout) as raw:
        console.print(f"\ntaken for: {raw.format}", style="bold", soft_wrap=True)
        for name, said in _known(raw):
            console.print(f"  {name}: {said or 'not found'}", soft_wrap=True)
        try:
            prepared = prepare(raw, data)
        except ValueError as error:
            console.print(f"not ready: {printable(str(error))}", style="red", soft_wrap=True)
            return
        for line in _prepared_lines(prepared):
            console.print(line, soft_wrap=True)
        where = picture or Path("outputs/inspect") / f"{Path(files[0]).name}.png"
        _draw(where, prepared, Path(files[0]).name)
    typed_again = shlex.join(["data=measured", *overrides])
    for line in (
        f"picture: {where}",
        "\nthe object by rounds of overlap, and a network trained on this scan:",
        f"  python -m ptychofno.reconstruct flat {typed_again} refine.rounds=50",
        f"  python -m ptychofno.train {typed_again} refine.rounds=30",
    ):
        console.print(line, soft_wrap=True)


def _overrides(files: Sequence[str], typed: Sequence[str]) -> list[str]:
    """The settings that name the files, spelt as the command line takes them."""
    also = ",".join(map(_spelt, files[1:]))
    return [f"data.path={_spelt(files[0])}", *([f"data.also=[{also}]"] if also else []), *typed]


def _spelt(path: str) -> str:
    plain = all(char.isalnum() or char in "/._-+~" for char in path)
    return path if plain else '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _show_file(console: Console, path: str, source: Source) -> None:
    size = Path(path).expanduser().stat().st_size
    console.print(f"{path}: {source.kind}, {size / 1e6:.3g} MB", style="bold", soft_wrap=True)
    keys = source.keys
    rows = [
        ["array", "shape", "type", "range and remarks"],
        *(_row(source, key) for key in keys[:_MOST_ROWS]),
    ]
    for cells in aligned(rows):
        console.print(f"  {'  '.join(map(printable, cells))}".rstrip(), soft_wrap=True)
    if len(keys) > _MOST_ROWS:
        console.print(f"  … and {len(keys) - _MOST_ROWS} more")
    for name, value in list(source.attributes("").items())[:_MOST_ATTRIBUTES]:
        console.print(f"  attribute {printable(name)} = {printable(str(value))[:80]}", soft_wrap=True)


def _row(source: Source, key: str) -> list[str]:
    try:
        array = source.lazy(key)
        remarks = list(_remarks(_values(array)))
    except ValueError as error:
        return [key, "", "", str(error).partition(": ")[2] or str(error)]
    if units := source.attributes(key).get("units"):
        remarks.append(f"units {units}")
    return [key, _sides(array.shape) or "one", str(array.dtype), ", ".join(remarks)]


def _values(array: Lazy) -> np.ndarray:
    """All values of an array, or some of a large one."""
    if math.prod(array.shape) <= _LARGEST_WHOLE or len(array.shape) < 2:
        return np.asarray(array[()])
    wanted = np.unique(np.linspace(0, array.shape[0] - 1, _SAMPLED).astype(int))
    return np.stack([np.asarray(array[int(i)]) for i in wanted])


def _remarks(values: np.ndarray) -> Iterator[str]:
    """The range of values, and what among them is probably no measurement."""
    kind = values.dtype.kind
    if kind in "US":
        yield repr(str(values))[:60]
    if kind == "c" and values.size:
        yield f"modulus to {np.abs(values).max():.4g}"
    if kind not in "biuf" or not values.size:
        return
    finite = values[np.isfinite(values)]
    if finite.size:
        least, most = f"{finite.min():.6g}", f"{finite.max():.6g}"
        yield least if values.size == 1 else f"{least} to {most}"
    if finite.size < values.size:
        yield f"{values.size - finite.size} NaN or infinite"
    if kind in "iu" and values.size > 1 and (full := int((values == np.iinfo(values.dtype).max).sum())):
        yield f"{full} at the type's maximum"
    if values.size > 64 and kind in "if" and (negative := int((finite < 0).sum())):
        yield f"{negative} negative"


def _known(raw: RawScan) -> Iterator[tuple[str, str | None]]:
    """What is known of a scan, in words, and None for what is not."""
    patterns, positions, probe, mask = raw.patterns, raw.positions, raw.probe, raw.mask
    quantity = raw.quantity or "counts or amplitudes"
    yield (
        "patterns",
        f"{len(patterns)} of {_sides(patterns.size)}, {patterns.dtype}, {quantity}, from {patterns.where}"
        if patterns
        else None,
    )
    where = positions and f"{positions.unit or 'a unit that is not said'}, from {positions.where}"
    yield "positions", f"{len(positions.values)} in {where}" if positions else None
    modes = probe and counted(len(probe.values), "mode")
    yield "probe", f"{modes} of {_sides(probe.values.shape[1:])}" if probe else None
    means = mask and (f"1 means {mask.means}" if mask.means else "what 1 means is not said")
    yield "mask", f"{_sides(mask.values.shape)}, {means}" if mask else None
    yield "energy", f"{raw.energy_ev:.6g} eV" if raw.energy_ev else None
    yield "distance", f"{raw.distance_m:.4g} m" if raw.distance_m else None
    yield "detector pixel", f"{raw.detector_pixel_m * 1e6:.4g} um" if raw.detector_pixel_m else None


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _prepared_lines(prepared: Prepared) -> Iterator[str]:
    height, width = np.ptp(prepared.positions_px, axis=0)
    N = prepared.window.N
    yield f"\nused: {len(prepared.look.patterns)} patterns of {N} x {N}, {prepared.look.quantity}"
    yield f"  the scan covers {height:.0f} x {width:.0f} object pixels"
    if prepared.object_pixel_m is not None:
        yield f"  an object pixel is {prepared.object_pixel_m * 1e9:.3g} nm"
    if prepared.modes is None:
        yield "  no probe: begun from the mean pattern and refined"
    yield from (f"  {note}" for note in prepared.notes)


def _draw(path: Path, prepared: Prepared, title: str) -> None:
    from ptychofno.display.scan import draw_scan

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_scan(
            path,
            title=title,
            mean=prepared.mean_amplitude,
            valid=prepared.window.binned_valid(prepared.window.valid),
            positions_px=prepared.positions_px,
            modes=prepared.modes,
        )
    except OSError as error:
        raise ConfigError(f"--picture={path}: cannot be written: {error.strerror}") from None


if __name__ == "__main__":
    main()

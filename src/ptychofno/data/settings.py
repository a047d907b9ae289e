"""The settings of datasets and probes that hold for several of them, and those of measured scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Len, Lt
from typing_extensions import Doc


@dataclass(kw_only=True)
class DataBase:
    """What every dataset has. ``kind`` names its class in the dataset key.

    A dataset of your own is a dataclass of this with its settings and a method ``dataset(probe, key)``.
    """

    kind: ClassVar[str] = ""

    name: Annotated[str, Doc("name of the preset; names the cache entry")]
    cache_dir: Annotated[str, Doc("where datasets are cached")] = "outputs/datasets"
    batch_size: Annotated[int, Ge(1), Doc("patterns per optimizer step, of all processes together")] = 16
    drop_last: Annotated[bool, Doc("drop the last partial batch instead of training on it")] = False
    thinning: Annotated[
        float | None, Gt(0), Lt(1), Doc("share of the photons that a network sees, the loss takes the others")
    ] = None
    gridsize: Annotated[int, Ge(1), Le(4), Doc("g*g neighbouring patches per sample")] = 1

    def dataset(self, probe: Any, key: str) -> Any:
        """The ``PtychoDataset`` of these settings, named ``key``; simulated and measured data need none."""
        raise NotImplementedError


@dataclass(kw_only=True)
class MeasuredLayout:
    """Names and conventions that a user says instead of the file; null leaves them to the file."""

    patterns_keys: Annotated[
        list[str] | None, Len(1), Doc("names under which the patterns may stand; the first present counts")
    ] = None
    quantity: Annotated[Literal["counts", "amplitude"] | None, Doc("what the patterns hold")] = None
    zero_frequency: Annotated[Literal["corner", "centre"] | None, Doc("where it stands")] = None
    probe_key: Annotated[str | None, Doc("name of the probe, complex")] = None
    positions_keys: Annotated[
        list[str] | None, Len(1, 2), Doc("one key of (row, col) pairs, or the keys of rows and of columns")
    ] = None
    positions_unit: Annotated[
        Literal["px", "m", "mm", "um", "nm", "angstrom"] | None, Doc("of the positions; px are object pixels")
    ] = None
    mask_key: Annotated[str | None, Doc("name of the mask of the detector's pixels")] = None
    mask_means: Annotated[Literal["valid", "bad"] | None, Doc("what values other than 0 say")] = None
    swap_axes: Annotated[bool, Doc("the file's rows are columns of the scan, and its columns rows")] = False
    negate_rows: Annotated[bool, Doc("rows of the scan count the other way")] = False
    negate_cols: Annotated[bool, Doc("columns of the scan count the other way")] = False


def turned_by(changes: Sequence[bool]) -> str:
    """The settings that swap axes, negate rows and negate columns of a scan, those of them in ``changes``."""
    names = ("swap_axes", "negate_rows", "negate_cols")
    return " ".join(f"data.layout.{name}=true" for name, change in zip(names, changes, strict=True) if change)


@dataclass(kw_only=True)
class MeasuredGeometry:
    """What the size of an object pixel follows from; null takes the file's."""

    energy_ev: Annotated[float | None, Gt(0), Doc("photon energy in eV")] = None
    distance_m: Annotated[float | None, Gt(0), Doc("from the object to the detector, in metres")] = None
    detector_pixel_m: Annotated[float | None, Gt(0), Doc("size of a detector pixel in metres")] = None


@dataclass(kw_only=True)
class MeasuredDetector:
    """Orientation, centre, bins and saturation of the detector."""

    transpose: Annotated[bool, Doc("rows and columns of the detector change places, before flips")] = False
    flip_rows: Annotated[bool, Doc("rows of the detector count the other way")] = False
    flip_cols: Annotated[bool, Doc("columns of the detector count the other way")] = False
    centre: Annotated[
        Literal["middle", "mass"],
        Doc("where the zero frequency is: the middle, or the light's centre of mass"),
    ] = "middle"
    centre_offset_px: Annotated[
        list[int], Len(2, 2), Doc("the zero frequency lies so far from there (row, col)")
    ] = field(default_factory=lambda: [0, 0])
    bin: Annotated[int, Ge(1), Le(64), Doc("so many pixels in each direction become one, counts summed")] = 1
    saturation: Annotated[
        float | None, Gt(0), Doc("counts from which on a pixel is masked; null refuses those that show")
    ] = None


@dataclass(kw_only=True)
class MeasuredData(DataBase):
    """A measured scan in a file, or in several."""

    kind: ClassVar[str] = "measured"

    path: Annotated[str, Doc("file of the scan; any format that inspect knows")]
    also: Annotated[list[str], Doc("further files: positions, probe, mask …")] = field(default_factory=list)
    N: Annotated[
        int | None, Ge(8), Le(1024), Doc("pattern size; a larger detector is cropped, null takes its own")
    ] = None
    held_out_every: Annotated[int, Ge(3), Doc("of so many patterns one validates and one tests")] = 12
    layout: Annotated[MeasuredLayout, Doc("of the file")] = field(default_factory=MeasuredLayout)
    geometry: Annotated[MeasuredGeometry, Doc("of the instrument")] = field(default_factory=MeasuredGeometry)
    detector: Annotated[MeasuredDetector, Doc("how it is read")] = field(default_factory=MeasuredDetector)

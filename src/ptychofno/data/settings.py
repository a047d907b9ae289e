"""The settings of datasets and probes that hold for several of them, and those of measured scans."""

from __future__ import annotations

from dataclasses import dataclass
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
        float | None,
        Gt(0),
        Lt(1),
        Doc("share of the photons that a network sees in training, the loss takes the others; null for all"),
    ] = None
    gridsize: Annotated[int, Ge(1), Le(4), Doc("g*g neighbouring patches per sample")] = 1

    def dataset(self, probe: Any, key: str) -> Any:
        """The ``PtychoDataset`` of these settings, named ``key``; simulated and measured data need none."""
        raise NotImplementedError


@dataclass(kw_only=True)
class MeasuredLayout:
    """Names and conventions of a file."""

    patterns_keys: Annotated[
        list[str], Len(1), Doc("names under which the patterns may stand; the first one present counts")
    ]
    quantity: Annotated[Literal["counts", "amplitude"], Doc("what the patterns hold")]
    zero_frequency: Annotated[Literal["corner", "centre"], Doc("where the zero frequency stands")]
    probe_key: Annotated[str, Doc("name of the probe, complex")]
    positions_keys: Annotated[
        list[str], Len(1, 2), Doc("one key of (row, col) pairs, or the keys of rows and of columns")
    ]
    mask_key: Annotated[
        str | None, Doc("name of the mask, 1 where a detector pixel is valid; null for none")
    ] = None
    swap_axes: Annotated[bool, Doc("the file's rows are columns of the scan, and its columns rows")] = False
    negate_rows: Annotated[bool, Doc("rows of the scan count the other way")] = False
    negate_cols: Annotated[bool, Doc("columns of the scan count the other way")] = False


@dataclass(kw_only=True)
class MeasuredData(DataBase):
    """A measured scan in a file."""

    kind: ClassVar[str] = "measured"

    path: Annotated[str, Doc("NPZ file of the scan")]
    N: Annotated[int | None, Ge(8), Le(1024), Doc("expected pattern size; null takes the file's")] = None
    held_out_every: Annotated[int, Ge(3), Doc("one pattern in this many for validation and one for test")] = (
        12
    )
    layout: Annotated[MeasuredLayout, Doc("names and conventions of the file (group data/layout)")]

"""One small simulated scan per class of objects, and the settings of measured ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ptychofno.data.objects import GridLinesData, MixedData, NaturalImagesData, RandomFieldsData
from ptychofno.data.settings import MeasuredData, MeasuredLayout

_SCAN: dict[str, Any] = {
    "name": "small",
    "cache_dir": "unused",
    "batch_size": 8,
    "N": 32,
    "size": 96,
    "seed": 3,
}
_SCAN |= {"train_step_px": 8, "validation_step_px": 16, "test_step_px": 8}
LINES = GridLinesData(**_SCAN, nlines=100)
IMAGES = NaturalImagesData(**_SCAN)
FIELDS = RandomFieldsData(**_SCAN, correlation_px=6)
MIXED = MixedData(**_SCAN)
CLASSES = (LINES, IMAGES, FIELDS, MIXED)

TIKE = MeasuredLayout(
    patterns_keys=["data"],
    quantity="counts",
    zero_frequency="corner",
    probe_key="probe",
    positions_keys=["scan"],
    positions_unit="px",
)


def settings(path: Path, layout: MeasuredLayout, **changes: object) -> MeasuredData:
    data = MeasuredData(
        name="scan",
        cache_dir=str(path.parent / "datasets"),
        batch_size=8,
        path=str(path),
        held_out_every=6,
        layout=layout,
    )
    return replace(data, **changes)

"""One small simulated scan per class of objects, and the settings of measured ones."""

from dataclasses import replace
from pathlib import Path

from ptychofno.data.objects import GridLinesData, MixedData, NaturalImagesData, RandomFieldsData
from ptychofno.data.settings import MeasuredData, MeasuredDetector, MeasuredGeometry, MeasuredLayout

_SCAN = {
    "name": "small",
    "cache_dir": "unused",
    "batch_size": 8,
    "drop_last": False,
    "gridsize": 1,
    "N": 32,
    "offset_px": 4,
    "size": 96,
    "nimgs_train": 1,
    "nimgs_test": 1,
    "train_step_px": 8,
    "validation_step_px": 16,
    "test_step_px": 8,
    "nphotons": 1e9,
    "seed": 3,
}
LINES = GridLinesData(**_SCAN, nlines=100, set_phi=True)
IMAGES = NaturalImagesData(**_SCAN, min_amplitude=0.3, phase_range_rad=3.14)
FIELDS = RandomFieldsData(**_SCAN, min_amplitude=0.3, phase_range_rad=3.14, correlation_px=6)
MIXED = MixedData(**_SCAN, min_amplitude=0.3, phase_range_rad=3.14)
CLASSES = (LINES, IMAGES, FIELDS, MIXED)

AUTO = MeasuredLayout(
    patterns_keys=None,
    quantity=None,
    zero_frequency=None,
    probe_key=None,
    positions_keys=None,
    positions_unit=None,
    mask_key=None,
    mask_means=None,
    swap_axes=False,
    negate_rows=False,
    negate_cols=False,
)
DETECTOR = MeasuredDetector(
    transpose=False,
    flip_rows=False,
    flip_cols=False,
    centre="middle",
    centre_offset_px=[0, 0],
    bin=1,
    saturation=None,
)
GEOMETRY = MeasuredGeometry(energy_ev=None, distance_m=None, detector_pixel_m=None)
TIKE = MeasuredLayout(
    patterns_keys=["data"],
    quantity="counts",
    zero_frequency="corner",
    probe_key="probe",
    positions_keys=["scan"],
    positions_unit="px",
    mask_key=None,
    mask_means=None,
    swap_axes=False,
    negate_rows=False,
    negate_cols=False,
)


def settings(path: Path, layout: MeasuredLayout, **changes: object) -> MeasuredData:
    data = MeasuredData(
        name="scan",
        cache_dir=str(path.parent / "datasets"),
        batch_size=8,
        drop_last=False,
        gridsize=1,
        path=str(path),
        also=[],
        N=None,
        held_out_every=6,
        layout=layout,
        geometry=GEOMETRY,
        detector=DETECTOR,
    )
    return replace(data, **changes)

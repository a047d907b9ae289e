"""One small simulated scan per class of objects."""

from ptychofno.config.schema import GridLinesData, NaturalImagesData, RandomFieldsData

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
CLASSES = (LINES, IMAGES, FIELDS)

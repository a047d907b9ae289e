"""From a trained network to a judged object: prediction, stitching, metrics, pictures."""

from ptychofno.evaluation.evaluate import Evaluation, evaluate, save_reconstruction
from ptychofno.evaluation.figures import draw_curves, draw_reconstruction
from ptychofno.evaluation.infer import predict_patches
from ptychofno.evaluation.stitch import Stitched, centre_crop, scanned_region, stitch

__all__ = [
    "Evaluation",
    "Stitched",
    "centre_crop",
    "draw_curves",
    "draw_reconstruction",
    "evaluate",
    "predict_patches",
    "save_reconstruction",
    "scanned_region",
    "stitch",
]

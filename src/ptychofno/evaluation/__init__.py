"""From a trained network to an object and how good it is: prediction, stitching, metrics, pictures."""

from ptychofno.evaluation.curves import draw_curves
from ptychofno.evaluation.evaluable import check_evaluable
from ptychofno.evaluation.evaluate import (
    Evaluation,
    evaluate,
    judge,
    save_reconstruction,
    write_evaluation,
)
from ptychofno.evaluation.figures import draw_reconstruction
from ptychofno.evaluation.follow import follow_similarity
from ptychofno.evaluation.illumination import lit_pixels, scanned_region
from ptychofno.evaluation.infer import predict_patches
from ptychofno.evaluation.overlap import Refinement
from ptychofno.evaluation.stitch import Stitched, stitch

__all__ = [
    "Evaluation",
    "Refinement",
    "Stitched",
    "check_evaluable",
    "draw_curves",
    "draw_reconstruction",
    "evaluate",
    "follow_similarity",
    "judge",
    "lit_pixels",
    "predict_patches",
    "save_reconstruction",
    "scanned_region",
    "stitch",
    "write_evaluation",
]

"""Training a generator with the physics as its only teacher."""

from ptychofno.training.baseline import flat_baseline
from ptychofno.training.batches import Batch, ResidentBatches, ResidentData, Thinned, compared, parts
from ptychofno.training.checkpoints import CheckpointError, load_tensors, save_tensors
from ptychofno.training.clipping import (
    AdaptiveClip,
    NoClip,
    NormClip,
    ValueClip,
    adaptive_gradient_clip_,
    output_axes_of,
)
from ptychofno.training.fit import Outcome, fit
from ptychofno.training.interruption import Interrupted, StopRequest
from ptychofno.training.losses import MAELoss, PoissonLoss
from ptychofno.training.memory import keep_freed_memory
from ptychofno.training.module import Diverged, PhysicsSupervised
from ptychofno.training.muon import Muon
from ptychofno.training.optimizers import adam, adamw, sgd
from ptychofno.training.precision import precise_matmul_setting
from ptychofno.training.reproducible import reproducible
from ptychofno.training.schedules import Schedule, build_warmup_cosine_scheduler
from ptychofno.training.similarity import ValidationSimilarity
from ptychofno.training.thinning import Thinning

__all__ = [
    "AdaptiveClip",
    "Batch",
    "CheckpointError",
    "Diverged",
    "Interrupted",
    "MAELoss",
    "Muon",
    "NoClip",
    "NormClip",
    "Outcome",
    "PhysicsSupervised",
    "PoissonLoss",
    "ResidentBatches",
    "ResidentData",
    "Schedule",
    "StopRequest",
    "Thinned",
    "Thinning",
    "ValidationSimilarity",
    "ValueClip",
    "adam",
    "adamw",
    "adaptive_gradient_clip_",
    "build_warmup_cosine_scheduler",
    "compared",
    "fit",
    "flat_baseline",
    "keep_freed_memory",
    "load_tensors",
    "output_axes_of",
    "parts",
    "precise_matmul_setting",
    "reproducible",
    "save_tensors",
    "sgd",
]

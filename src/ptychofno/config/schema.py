"""Every setting: its type, its limits and its meaning, declared once. Its value stands in ``conf/``.

Plain dataclasses, no OmegaConf and no torch, so that every layer may receive them. A field
without a default must be given by a YAML file. ``in_key=False`` marks what does not change
the data themselves and therefore stays out of the dataset key.
"""

# ruff: noqa: RUF009  (setting and constant return dataclass fields)

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Pattern(NamedTuple):
    """What a text must wholly match, and how to say it."""

    regex: str
    meaning: str


DIRECTORY_NAME = Pattern(
    r"\w[\w.-]*", "the name of a directory: letters, digits, '_', '.', '-', the first a letter, digit or '_'"
)


OBJECTIVES = [
    "best_val_loss",
    "final_val_loss",
    "ssim_amplitude",
    "ssim_phase",
    "phase_mae_rad",
    "diffraction_error",
    "diffraction_error_stitched",
]


def setting(
    help: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: Sequence[str] | None = None,
    length: tuple[float, float] | None = None,
    pattern: Pattern | None = None,
    in_key: bool = True,
) -> Any:
    """A dataclass field with its limits: ``ge`` and ``le`` inclusive, ``gt`` and ``lt`` exclusive.

    Limits on a list hold for each of its elements, ``length`` (fewest, most) for their number;
    ``None`` always passes for an optional field.
    """
    limits: dict[str, Any] = {"ge": ge, "gt": gt, "le": le, "lt": lt}
    limits |= {"choices": choices, "length": length, "pattern": pattern}
    metadata = {name: limit for name, limit in limits.items() if limit is not None}
    return field(kw_only=True, metadata={"help": help, "in_key": in_key, **metadata})


def constant(value: Any) -> Any:
    """A field that a choice fixes, such as ``_target_``; another value is refused."""
    metadata = {"help": "fixed by the choice", "in_key": True, "constant": True}
    return field(kw_only=True, default=value, metadata=metadata)


# --- model -----------------------------------------------------------------------------------


@dataclass
class PtychoBlock:
    _target_: str = constant("ptychofno.models.PtychoBlock")
    _partial_: bool = constant(True)


@dataclass
class ZeroGammaBlock:
    _target_: str = constant("ptychofno.models.StablePtychoBlock")
    _partial_: bool = constant(True)
    layerscale_init: Any = constant(None)


@dataclass
class LayerscaleBlock:
    _target_: str = constant("ptychofno.models.StablePtychoBlock")
    _partial_: bool = constant(True)
    layerscale_init: float = setting("initial per-channel gain of the residual update", gt=0)


@dataclass
class AmplitudeInput:
    _target_: str = constant("ptychofno.models.AmplitudeInput")
    _partial_: bool = constant(True)


@dataclass
class BackprojectionInput:
    _target_: str = constant("ptychofno.models.BackprojectionInput")
    _partial_: bool = constant(True)
    epsilon: float = setting("regularisation of the division by |P|^2, relative to its maximum", gt=0)


@dataclass
class PatchOutput:
    _target_: str = constant("ptychofno.models.PatchOutput")
    _partial_: bool = constant(True)


@dataclass
class ProjectedOutput:
    _target_: str = constant("ptychofno.models.ProjectedOutput")
    _partial_: bool = constant(True)
    rounds: int = setting("rounds of error reduction of the patch, trained through", ge=1, le=1000)
    epsilon: float = setting("regularisation of the division by |P|^2, relative to its maximum", gt=0)


_NEIGHBOURS = "how the g*g patterns of a sample are seen: as channels together, or each as a single one"


@dataclass
class HybridModel:
    _target_: str = constant("ptychofno.models.HybridUNOGenerator")
    fno_blocks: int = setting("encoder blocks, one per level of the U", ge=1, le=16)
    hidden_channels: int = setting("channels of the first level", ge=1, le=4096)
    modes: int = setting("Fourier modes kept per axis at full resolution", ge=1, le=1024)
    max_hidden_channels: int | None = setting("cap on the doubling of channels; null for none", ge=1)
    checkpoint_activations: bool = setting("recompute activations in backward to save memory")
    neighbours: str = setting(_NEIGHBOURS, choices=["channels", "single"])
    block: Any = setting("the block class, a partial (group model/block)")
    inputs: Any = setting("what the network sees, a partial (group model/inputs)")
    output: Any = setting("what becomes of the network's patch, a partial (group model/output)")


@dataclass
class StableHybridModel(HybridModel):
    _target_: str = constant("ptychofno.models.StableHybridUNOGenerator")


@dataclass
class FnoModel:
    _target_: str = constant("ptychofno.models.CascadedFNOGenerator")
    fno_blocks: int = setting("blocks in sequence, all at full resolution", ge=1, le=32)
    hidden_channels: int = setting("channels of every block", ge=1, le=4096)
    modes: int = setting("Fourier modes kept per axis", ge=1, le=1024)
    checkpoint_activations: bool = setting("recompute activations in backward to save memory")
    neighbours: str = setting(_NEIGHBOURS, choices=["channels", "single"])
    block: Any = setting("the block class, a partial (group model/block)")
    inputs: Any = setting("what the network sees, a partial (group model/inputs)")
    output: Any = setting("what becomes of the network's patch, a partial (group model/output)")


@dataclass
class CnnModel:
    _target_: str = constant("ptychofno.models.CNNGenerator")
    levels: int = setting("resolution levels of the U", ge=1, le=8)
    hidden_channels: int = setting("channels of the first level", ge=1, le=4096)
    max_hidden_channels: int | None = setting("cap on the doubling of channels; null for none", ge=1)
    neighbours: str = setting(_NEIGHBOURS, choices=["channels", "single"])
    inputs: Any = setting("what the network sees, a partial (group model/inputs)")
    output: Any = setting("what becomes of the network's patch, a partial (group model/output)")


# --- optimisation ----------------------------------------------------------------------------


@dataclass
class AdamOptimizer:
    _target_: str = constant("torch.optim.Adam")
    _partial_: bool = constant(True)
    lr: float = setting("learning rate", gt=0)
    betas: list[float] = setting("decay of the first and second moment", ge=0, lt=1, length=(2, 2))
    weight_decay: float = setting("L2 penalty (Adam) or decoupled decay (AdamW)", ge=0)
    fused: bool = setting("update all parameters in one kernel; false takes torch's loop over them")


@dataclass
class AdamWOptimizer(AdamOptimizer):
    _target_: str = constant("torch.optim.AdamW")


@dataclass
class SgdOptimizer:
    _target_: str = constant("ptychofno.training.sgd")
    _partial_: bool = constant(True)
    lr: float = setting("learning rate", gt=0)
    momentum: float = setting("momentum; Nesterov's form when positive", ge=0, lt=1)
    weight_decay: float = setting("L2 penalty", ge=0)


@dataclass
class MuonOptimizer:
    _target_: str = constant("ptychofno.training.Muon")
    _partial_: bool = constant(True)
    lr: float = setting("learning rate of Adam; of matrices scaled to steps of the same size", gt=0)
    betas: list[float] = setting("of Adam, decay of the first and second moment", ge=0, lt=1, length=(2, 2))
    momentum: float = setting("Nesterov momentum of matrices", ge=0, lt=1)
    weight_decay: float = setting("decoupled decay of all parameters", ge=0)


@dataclass
class DefaultScheduler:
    _target_: str = constant("ptychofno.training.ConstantSchedule")


@dataclass
class ExponentialScheduler:
    _target_: str = constant("ptychofno.training.ExponentialSchedule")
    gamma: float = setting("factor on the learning rate after every epoch", gt=0, le=1)


@dataclass
class WarmupCosineScheduler:
    _target_: str = constant("ptychofno.training.WarmupCosineSchedule")
    warmup_epochs: int = setting("epochs of linear warm-up from a tenth of the learning rate", ge=0)
    min_ratio: float = setting("learning rate after the last epoch, relative to the full one", ge=0, le=1)


@dataclass
class PlateauScheduler:
    _target_: str = constant("ptychofno.training.PlateauSchedule")
    factor: float = setting("factor on the learning rate when validation loss stalls", gt=0, lt=1)
    patience: int = setting("epochs without improvement before that", ge=0)
    min_lr: float = setting("never below this learning rate", ge=0)


@dataclass
class NoClip:
    _target_: str = constant("ptychofno.training.NoClip")


@dataclass
class NormClip:
    _target_: str = constant("ptychofno.training.NormClip")
    value: float = setting("largest global gradient norm", gt=0)


@dataclass
class ValueClip:
    _target_: str = constant("ptychofno.training.ValueClip")
    value: float = setting("largest absolute gradient entry", gt=0)


@dataclass
class AgcClip:
    _target_: str = constant("ptychofno.training.AdaptiveClip")
    value: float = setting("largest ratio of gradient norm to weight norm per output channel", gt=0)
    eps: float = setting("weight norms below this count as this", gt=0)


@dataclass
class NoAveraging:
    _target_: str = constant("ptychofno.training.NoAveraging")


@dataclass
class EmaAveraging:
    _target_: str = constant("ptychofno.training.EmaAveraging")
    decay: float = setting(
        "share of the average that a step keeps, at most: (1 + t)/(10 + t) of step t where that is less",
        gt=0,
        lt=1,
    )


@dataclass
class NoGuard:
    _target_: str = constant("ptychofno.training.NoGuard")


@dataclass
class RollbackGuard:
    _target_: str = constant("ptychofno.training.RollbackGuard")
    lr_factor: float = setting(
        "factor on the learning rate with every return to the last good state", gt=0, lt=1
    )
    max_interventions: int = setting("returns at most; then the run takes its course", ge=1, le=1000)
    spike_factor: float = setting(
        "a loss or gradient norm above this many times the median of the steps before is a spike", gt=1
    )
    spike_window: int = setting(
        "steps of that median; until there are so many, nothing is a spike", ge=3, le=100_000
    )


@dataclass
class MaeLoss:
    _target_: str = constant("ptychofno.training.MAELoss")
    _partial_: bool = constant(True)


@dataclass
class PoissonLoss:
    _target_: str = constant("ptychofno.training.PoissonLoss")
    _partial_: bool = constant(True)


# --- data ------------------------------------------------------------------------------------


@dataclass
class ApertureProbe:
    name: str = constant("aperture")
    diameter: float = setting("diameter of the aperture as a fraction of the patch size", gt=0, le=1)
    edge_width: float = setting("width of the aperture's smooth edge, relative to its radius", gt=0, le=1)
    defocus_rad: float = setting("quadratic phase at the rim of the aperture, radians")


@dataclass
class GaussianProbe:
    name: str = constant("gaussian")
    # Wider, and the border of the patch would cut off a beam of notable amplitude (6 % at 0.35).
    fwhm: float = setting(
        "full width at half maximum of the intensity as a fraction of the patch size", gt=0, le=0.35
    )
    defocus_rad: float = setting("quadratic phase at half maximum, radians")


@dataclass
class NpzProbe:
    name: str = constant("npz")
    path: str = setting("NPZ file with a complex probe")
    key: str = setting("name of the array in that file")


@dataclass
class DatasetProbe:
    name: str = constant("dataset")


@dataclass
class RefinedProbe:
    name: str = constant("refined")
    rounds: int = setting("rounds of overlap on the training patterns, at most", ge=2, le=10_000)


@dataclass
class DataBase:
    name: str = setting("name of the preset; names the cache entry", pattern=DIRECTORY_NAME, in_key=False)
    cache_dir: str = setting("where datasets are cached", in_key=False)
    batch_size: int = setting("patterns per optimizer step, of all processes together", ge=1, in_key=False)
    drop_last: bool = setting("drop the last partial batch instead of training on it", in_key=False)
    gridsize: int = setting("g*g neighbouring patches per sample", ge=1, le=4)


@dataclass
class SimulatedData(DataBase):
    """The scan and the dose; a class of objects adds what its objects look like."""

    N: int = setting("pattern and patch size in pixels", ge=8, le=1024)
    offset_px: int = setting("distance of neighbouring patches within a sample", ge=1)
    size: int = setting("object size in pixels", ge=16, le=16384)
    nimgs_train: int = setting("training objects", ge=1, le=1000)
    nimgs_test: int = setting("test objects", ge=1, le=1000)
    train_step_px: int = setting("raster step of the training scan", ge=1)
    validation_step_px: int = setting("raster step on the validation object", ge=1)
    test_step_px: int = setting("raster step of the test scan", ge=1)
    nphotons: float = setting("expected photons per pattern, mean of the training split", gt=0, le=1e15)
    seed: int = setting("seed of objects and photon noise", ge=0, le=2**63 - 1)


@dataclass
class GridLinesData(SimulatedData):
    kind: str = constant("grid_lines")
    nlines: int = setting("random lines on the canvas of twice the object size", ge=1, le=1_000_000)
    set_phi: bool = setting("give the object a phase; false leaves it zero")


@dataclass
class IndependentPhaseData(SimulatedData):
    """Objects whose amplitude and phase come from two images that know nothing of each other."""

    min_amplitude: float = setting("smallest amplitude, relative to the largest", ge=0, lt=1)
    phase_range_rad: float = setting("the phase runs from minus to plus half of this", ge=0, le=6.28)


@dataclass
class NaturalImagesData(IndependentPhaseData):
    kind: str = constant("natural_images")


@dataclass
class RandomFieldsData(IndependentPhaseData):
    kind: str = constant("random_fields")
    correlation_px: float = setting("distance at which the correlation of values is 1/e", ge=1, le=4096)


@dataclass
class MeasuredLayout:
    """Names and conventions that a user says instead of the file; null leaves them to the file."""

    patterns_keys: list[str] | None = setting(
        "names under which the patterns may stand; the first one present counts", length=(1, math.inf)
    )
    quantity: str | None = setting("what the patterns hold", choices=["counts", "amplitude"])
    zero_frequency: str | None = setting("where the zero frequency stands", choices=["corner", "centre"])
    probe_key: str | None = setting("name of the probe, complex")
    positions_keys: list[str] | None = setting(
        "one key of (row, col) pairs, or the keys of rows and of columns", length=(1, 2)
    )
    positions_unit: str | None = setting(
        "unit of the positions; px are object pixels", choices=["px", "m", "mm", "um", "nm", "angstrom"]
    )
    mask_key: str | None = setting("name of the mask of the detector's pixels")
    mask_means: str | None = setting("what a mask says by a value other than 0", choices=["valid", "bad"])
    swap_axes: bool = setting("the file's rows are columns of the scan, and its columns rows")
    negate_rows: bool = setting("rows of the scan count the other way")
    negate_cols: bool = setting("columns of the scan count the other way")


@dataclass
class MeasuredGeometry:
    """What the size of an object pixel follows from; null takes the file's."""

    energy_ev: float | None = setting("photon energy in eV", gt=0)
    distance_m: float | None = setting("from the object to the detector, in metres", gt=0)
    detector_pixel_m: float | None = setting("size of a detector pixel in metres", gt=0)


@dataclass
class MeasuredDetector:
    transpose: bool = setting("rows and columns of the detector change places, before flips")
    flip_rows: bool = setting("rows of the detector count the other way")
    flip_cols: bool = setting("columns of the detector count the other way")
    centre: str = setting(
        "where the zero frequency is: in the middle of the detector, or at the centre of mass of all light",
        choices=["middle", "mass"],
    )
    centre_offset_px: list[int] = setting(
        "the zero frequency lies so far from there (row, col)", length=(2, 2)
    )
    bin: int = setting(
        "so many detector pixels in each direction become one, their counts summed", ge=1, le=64
    )
    saturation: float | None = setting(
        "pixels that reach so many counts in any pattern are masked; null refuses them where they show", gt=0
    )


@dataclass
class MeasuredData(DataBase):
    kind: str = constant("measured")
    path: str = setting("file of the scan; any format that inspect knows")
    also: list[str] = setting("further files of the scan: positions, probe, mask or more patterns")
    N: int | None = setting(
        "pattern size; a larger detector is cropped around the zero frequency, null takes its own",
        ge=8,
        le=1024,
    )
    held_out_every: int = setting("one pattern in this many for validation and one for test", ge=3)
    layout: MeasuredLayout = setting("names and conventions of the file (group data/layout)")
    geometry: MeasuredGeometry = setting("what turns metres into object pixels")
    detector: MeasuredDetector = setting("orientation, centre, bins and saturation")


# --- running ---------------------------------------------------------------------------------


@dataclass
class Trainer:
    max_epochs: int = setting("epochs to train", ge=1, le=1_000_000)
    accelerator: str = setting("where to compute", choices=["auto", "cpu", "gpu"])
    precision: str = setting("arithmetic of the network", choices=["32-true", "bf16-mixed"])
    matmul_precision: str = setting(
        "of matrix products: torch.set_float32_matmul_precision; auto: see conf/trainer/default.yaml",
        choices=["auto", "highest", "high", "medium"],
    )
    compile: bool = setting("compile the network with torch.compile, which takes a minute")
    num_threads: int | None = setting("CPU threads; null leaves torch's default", ge=1, le=1024)
    keep_every: int | None = setting(
        "keep the weights of every k-th epoch, k being this; null for none", ge=1
    )


@dataclass
class DdpTrainer(Trainer):
    strategy: str = constant("ddp")
    devices: int | None = setting(
        "processes on each node; null takes those started from outside, or one per GPU", ge=1, le=1024
    )


@dataclass
class Logger:
    name: str = setting("live log of a run", choices=["tensorboard", "none"])


@dataclass
class Evaluation:
    checkpoint: str = setting("which weights to judge", choices=["best", "last"])
    stitch: str = setting("how patches become an object", choices=["overlap", "centre_crop"])
    sync_rounds: int = setting("rounds of phase synchronisation of the patches", ge=0)
    phase_alignment: str = setting("removed from both phases before comparing", choices=["plane", "mean"])


@dataclass
class NoRefinement:
    name: str = constant("none")


@dataclass
class OverlapRefinement:
    name: str = constant("overlap")
    rounds: int = setting("rounds of overlap over all patterns, at most", ge=1, le=100_000)
    probe: str = setting(
        "auto refines the probe of measured scans only", choices=["auto", "fixed", "refined"]
    )
    probe_from: int = setting("the first round that refines the probe, too", ge=1)
    positions: bool = setting("let scan positions move as their patterns ask, from the fourth round on")
    tolerance: float = setting("stop when a round lowers the error by less than this share", ge=0, lt=1)


@dataclass
class Config:
    seed: int = setting("seed of initialisation and data order", ge=0, le=2**63 - 1)
    run_dir: str = setting("where the run is written", pattern=Pattern(r"[^$]+", "a directory, without '$'"))
    resume: str = setting("auto continues an interrupted run; never starts over", choices=["auto", "never"])
    objective: str = setting(
        "the number of a run that is given to a sweeper which searches", choices=OBJECTIVES
    )
    infer_batch_size: int = setting("patterns per forward pass in evaluation", ge=1)
    enable_checkpointing: bool = setting("write checkpoints; without them a run cannot resume")
    model: Any = setting("the generator network")
    optimizer: Any = setting("the optimizer")
    scheduler: Any = setting("learning rate over epochs")
    clip: Any = setting("gradient clipping")
    averaging: Any = setting("which average of the weights is validated, chosen from, kept and judged")
    guard: Any = setting("what to do when training goes wrong")
    loss: Any = setting("distance of predicted and measured diffraction")
    data: Any = setting("the dataset")
    probe: Any = setting("the illumination")
    trainer: Trainer = setting("length and place of training")
    logger: Logger = setting("live log")
    evaluation: Evaluation = setting("how a run is judged")
    refine: Any = setting("what the overlap of all patterns makes of the stitched object")

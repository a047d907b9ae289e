"""The settings that belong to no part of their own. What a part takes stands in its own signature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from typing_extensions import Doc

Part = dict[str, Any]
"""The settings of a part that is made where it is used, ``_target_`` among them."""


@dataclass
class Trainer:
    max_epochs: Annotated[int, Ge(1), Le(1_000_000), Doc("epochs to train")] = 3
    accelerator: Annotated[Literal["auto", "cpu", "gpu"], Doc("where to compute")] = "auto"
    strategy: Annotated[Literal["auto", "ddp"], Doc("ddp trains one network by several processes")] = "auto"
    devices: Annotated[
        int | None,
        Ge(1),
        Le(1024),
        Doc("processes of ddp on each node; null takes one per GPU, and on a CPU one"),
    ] = None
    num_nodes: Annotated[
        int, Ge(1), Le(1024), Doc("nodes of ddp, whose processes torchrun or Slurm has started")
    ] = 1
    precision: Annotated[Literal["32-true", "bf16-mixed"], Doc("arithmetic of the network")] = "32-true"
    matmul_precision: Annotated[
        Literal["auto", "highest", "high", "medium"],
        Doc("of matrix products: torch.set_float32_matmul_precision; auto: see conf/trainer/default.yaml"),
    ] = "auto"
    compile: Annotated[bool, Doc("compile the network with torch.compile, which takes a minute")] = False
    num_threads: Annotated[int | None, Ge(1), Le(1024), Doc("CPU threads; null leaves torch's default")] = (
        None
    )
    keep_every: Annotated[
        int | None, Ge(1), Doc("keep the weights of every k-th epoch, k being this; null for none")
    ] = None


@dataclass
class Evaluation:
    checkpoint: Annotated[Literal["best", "last"], Doc("which weights to judge")] = "best"
    phase_alignment: Annotated[Literal["plane", "mean"], Doc("removed from both phases before comparing")] = (
        "plane"
    )


@dataclass
class Config:
    seed: Annotated[int, Ge(0), Le(2**63 - 1), Doc("seed of initialisation and data order")]
    run_dir: Annotated[str, Doc("where the run is written")]
    resume: Annotated[Literal["auto", "never"], Doc("auto continues an interrupted run; never starts over")]
    init_from: Annotated[
        str | None,
        Doc("a run's directory or a file of weights that the network starts from; null for a random start"),
    ]
    objective: Annotated[
        Literal[
            "best_val_loss",
            "final_val_loss",
            "ssim_amplitude",
            "ssim_phase",
            "phase_mae_rad",
            "diffraction_error",
            "diffraction_error_stitched",
        ],
        Doc("the number of a run that is given to a sweeper which searches"),
    ]
    infer_batch_size: Annotated[int, Ge(1), Doc("patterns per forward pass in evaluation")]
    enable_checkpointing: Annotated[bool, Doc("write checkpoints; without them a run cannot resume")]
    model: Annotated[Part, Doc("the generator network")]
    optimizer: Annotated[Part, Doc("the optimizer")]
    scheduler: Annotated[Part, Doc("learning rate over epochs")]
    clip: Annotated[Part, Doc("gradient clipping")]
    loss: Annotated[Part, Doc("distance of predicted and measured diffraction")]
    data: Annotated[Any, Doc("the dataset")]
    probe: Annotated[Any, Doc("the illumination")]
    trainer: Annotated[Trainer, Doc("length and place of training")]
    logger: Annotated[Part, Doc("live logs, each under a name of its own")]
    evaluation: Annotated[Evaluation, Doc("how a run is judged")]
    refine: Annotated[Any, Doc("what the overlap of all patterns makes of the stitched object")]

"""Which dataclass checks which choice of which group, made known to Hydra."""

from __future__ import annotations

from ptychofno.config import schema

SCHEMAS: dict[str, dict[str, type]] = {
    "model": {
        "hybrid": schema.HybridModel,
        "fno": schema.FnoModel,
        "cnn": schema.CnnModel,
    },
    "model/block": {
        "ptycho": schema.PtychoBlock,
        "layerscale": schema.LayerscaleBlock,
        "zero_gamma": schema.ZeroGammaBlock,
    },
    "model/inputs": {
        "amplitude": schema.AmplitudeInput,
        "backprojection": schema.BackprojectionInput,
    },
    "model/output": {
        "patch": schema.PatchOutput,
        "projected": schema.ProjectedOutput,
    },
    "optimizer": {
        "adam": schema.AdamOptimizer,
        "adamw": schema.AdamWOptimizer,
        "sgd": schema.SgdOptimizer,
        "muon": schema.MuonOptimizer,
    },
    "scheduler": {
        "default": schema.DefaultScheduler,
        "exponential": schema.ExponentialScheduler,
        "warmup_cosine": schema.WarmupCosineScheduler,
        "plateau": schema.PlateauScheduler,
    },
    "clip": {
        "none": schema.NoClip,
        "norm": schema.NormClip,
        "value": schema.ValueClip,
        "agc": schema.AgcClip,
    },
    "averaging": {"none": schema.NoAveraging, "ema": schema.EmaAveraging},
    "guard": {"none": schema.NoGuard, "rollback": schema.RollbackGuard},
    "loss": {"mae": schema.MaeLoss, "poisson": schema.PoissonLoss},
    "data": {
        "grid_lines": schema.GridLinesData,
        "natural_images": schema.NaturalImagesData,
        "random_fields": schema.RandomFieldsData,
        "measured": schema.MeasuredData,
    },
    "probe": {
        "aperture": schema.ApertureProbe,
        "gaussian": schema.GaussianProbe,
        "npz": schema.NpzProbe,
        "dataset": schema.DatasetProbe,
        "refined": schema.RefinedProbe,
    },
    "refine": {"none": schema.NoRefinement, "overlap": schema.OverlapRefinement},
    "trainer": {"default": schema.Trainer, "ddp": schema.DdpTrainer},
}
"""A YAML file takes one of these by ``/schema/GROUP/NAME@_here_`` in its defaults list."""


def register() -> None:
    """Make schemas and resolvers known to Hydra in this process. May be called any number of times."""
    from hydra import version
    from hydra.core.config_store import ConfigStore
    from hydra.core.utils import setup_globals
    from omegaconf import OmegaConf

    from ptychofno.config import run_dir

    version.setbase("1.3")
    setup_globals()
    OmegaConf.register_new_resolver("default_run_dir", run_dir.of_current_job, replace=True)
    OmegaConf.register_new_resolver("absolute_path", run_dir.absolute, replace=True)
    store = ConfigStore.instance()
    if "schema" in store.repo:
        return
    for group, choices in SCHEMAS.items():
        for name, node in choices.items():
            store.store(group=f"schema/{group}", name=name, node=node, provider="ptychofno")
    store.store(group="schema", name="config", node=schema.Config, provider="ptychofno")

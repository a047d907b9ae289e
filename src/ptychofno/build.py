"""From a composed configuration to objects. With ``config``, the only place that sees OmegaConf."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from ptychofno import data, models, physics
from ptychofno.config.errors import ConfigError
from ptychofno.config.records import in_sweep
from ptychofno.config.schema import Config
from ptychofno.data import PtychoDataset, Split
from ptychofno.training.batches import Batch, parts
from ptychofno.training.numerics import keep_freed_memory, precise_matmul_setting, reproducible


@contextmanager
def as_config_errors() -> Iterator[None]:
    """Turn what the layers below refuse into a user's error."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error


def to_plain(node: DictConfig) -> dict[str, Any]:
    """The resolved values of a node."""
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def dataset_key(plan: Config) -> str:
    """What identifies the data of ``plan``; reads a measured file, simulates nothing."""
    with as_config_errors():
        return data.dataset_key(plan.data, plan.probe)


def dataset(plan: Config, each_block: Callable[[int, int], None] = lambda done, count: None) -> PtychoDataset:
    """The dataset of ``plan``, cached. Raises ConfigError for settings and files that make none.

    ``each_block`` is told how many of how many patterns of a measured scan are read.
    """
    with as_config_errors():
        return data.load_dataset(plan.data, plan.probe, each_block)


def generator(cfg: DictConfig, dataset: PtychoDataset) -> nn.Module:
    """The network of ``cfg.model`` for this dataset. A block class may be a user's own."""
    with of_a_user(cfg, "model"):
        network = models.build_generator(to_plain(cfg.model), find, **model_context(dataset))
        sample = parts(as_batch(dataset.validation, slice(1)))
        B, C, N, _ = sample[0].shape
        with torch.no_grad():
            shape = tuple(network(*sample).shape)
        if shape != (B, N, N, C, 2):
            raise ValueError(f"returns patches of shape {shape}; expected {(B, N, N, C, 2)}")
    return network


def output_of(network: nn.Module) -> nn.Module | None:
    """What changes the patches of a network of ours after its layers; None where nothing does."""
    if not isinstance(network, models.Generator) or isinstance(network.output, models.PatchOutput):
        return None
    return network.output


def as_batch(samples: Split, index: Any = slice(None)) -> Batch:
    """Samples as a network takes them: amplitudes, and where there are several positions, these, too."""
    amplitude = torch.from_numpy(samples.amplitude[index].copy())
    if amplitude.shape[1] == 1:
        return amplitude
    return amplitude, torch.from_numpy(samples.positions_px[index].copy())


def device(cfg: DictConfig) -> torch.device:
    """Where ``trainer.accelerator`` means to compute."""
    wanted, present = cfg.trainer.accelerator, torch.cuda.is_available()
    if wanted == "gpu" and not present:
        raise ConfigError("trainer.accelerator=gpu: no CUDA device is available; use cpu or auto")
    return torch.device("cuda" if present and wanted != "cpu" else "cpu")


def device_name(device: torch.device, processes: int = 1) -> str:
    """What a person would call it."""
    threads = torch.get_num_threads()
    on_cpu = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else on_cpu
    return f"{processes} x {name}" if processes > 1 else name


def parallel(cfg: DictConfig) -> bool:
    """Whether several processes train. Raises ConfigError in a job of a sweep that was started alone."""
    if cfg.trainer.strategy != "ddp":
        return False
    if in_sweep() and not {"RANK", "SLURM_PROCID"} & set(os.environ):
        raise ConfigError("trainer=ddp: the sweep's launcher has started one process; run it without -m")
    return True


def processes(cfg: DictConfig) -> int:
    """How many train, on all nodes together."""
    if not parallel(cfg):
        return 1
    gpus = torch.cuda.device_count() if device(cfg).type == "cuda" else 1
    return int((cfg.trainer.devices or gpus) * cfg.trainer.num_nodes)


def reproducibly(cfg: DictConfig) -> AbstractContextManager[None]:
    """The numerical environment of a run: its seed, threads and precision of products; memory is kept."""
    keep_freed_memory()
    threads = cfg.trainer.num_threads
    if parallel(cfg) and "OMP_NUM_THREADS" not in os.environ:
        threads = threads or max(1, torch.get_num_threads() * cfg.trainer.num_nodes // processes(cfg))
        os.environ["OMP_NUM_THREADS"] = str(threads)  # else Lightning would choose another number
    return reproducible(cfg.seed, threads, matmul_precision(cfg))


def matmul_precision(cfg: DictConfig) -> str:
    """What ``trainer.matmul_precision`` means here."""
    wanted = cast(str, cfg.trainer.matmul_precision)
    return precise_matmul_setting(device(cfg)) if wanted == "auto" else wanted


def model_context(dataset: PtychoDataset) -> dict[str, Any]:
    """What a network takes from the data: number and size of its patterns, their probe, scale and mask."""
    _, patches, size, _ = dataset.train.amplitude.shape
    return {
        "size": size,
        "patches": patches,
        "probe": torch.from_numpy(dataset.probe.copy()),
        "rms_amplitude": dataset.rms_amplitude,
        "back_project": physics.back_projection,
        "project": physics.error_reduction,
        "valid": valid_pixels(dataset),
    }


def valid_pixels(dataset: PtychoDataset) -> Tensor | None:
    return None if dataset.valid is None else torch.from_numpy(dataset.valid.copy())


def find(target: str) -> Callable[..., Any]:
    """What a ``_target_`` names. Raises ValueError with the reason where nothing can be imported."""
    try:
        found = get_object(target)
    except Exception as error:
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split())
        raise ValueError(f"_target_={target}: cannot be imported: {reason}") from error
    if not callable(found):
        raise ValueError(f"_target_={target}: not a class")
    return cast(Callable[..., Any], found)


def part(cfg: DictConfig, key: str) -> Callable[..., Any]:
    """The class or function of a part with its settings, to be called with the rest."""
    node = to_plain(OmegaConf.select(cfg, key))
    if key == "scheduler":
        node.pop("interval", None)  # when it is stepped
    with of_a_user(cfg, key):
        return models.part(node, find)


def made(cfg: DictConfig, key: str, **context: Any) -> Any:
    """A part, made of its settings and of what it takes from ``context``."""
    with of_a_user(cfg, key):
        return models.made(part(cfg, key), context)


@contextmanager
def of_a_user(cfg: DictConfig, key: str) -> Iterator[None]:
    """Name the part whose class does not take or do what it has to: it may be a user's own."""
    try:
        yield
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        name = str(OmegaConf.select(cfg, key).get("_target_")).rsplit(".", 1)[-1]
        said = f"needs {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigError(f"{key} ({name}): {' '.join(said.split())[:300]}") from error

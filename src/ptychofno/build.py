"""From a composed configuration to objects. With ``config``, the only place that sees OmegaConf."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from ptychofno import data, models, physics
from ptychofno.config.errors import ConfigError
from ptychofno.config.records import in_sweep
from ptychofno.config.schema import Config
from ptychofno.config.validation import check_divisible
from ptychofno.data import PtychoDataset, Split
from ptychofno.processes import Group, place_of
from ptychofno.runs import artifacts
from ptychofno.training import (
    Batch,
    Guard,
    PhysicsSupervised,
    ResidentData,
    parts,
    precise_matmul_setting,
    reproducible,
)


@contextmanager
def told() -> Iterator[None]:
    """Turn what the layers below refuse into a user's error."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error


def plain(node: DictConfig) -> dict[str, Any]:
    """The resolved values of a node."""
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def dataset_key(plan: Config) -> str:
    """What identifies the data of ``plan``; reads a measured file, simulates nothing."""
    with told():
        return data.dataset_key(plan.data, plan.probe)


def dataset(plan: Config, each_block: Callable[[int, int], None] = lambda done, count: None) -> PtychoDataset:
    """The dataset of ``plan``, cached. Raises ConfigError for settings and files that make none.

    ``each_block`` is told how many of how many patterns of a measured scan are read.
    """
    with told():
        return data.load_dataset(plan.data, plan.probe, each_block)


def generator(cfg: DictConfig, dataset: PtychoDataset) -> nn.Module:
    """The network of ``cfg.model`` for this dataset. A block class may be a user's own."""
    config = plain(cfg.model)
    with _of_a_user("model", config):
        network = models.build_generator(config, find=_find, **model_context(dataset))
        sample = parts(as_batch(dataset.validation, slice(1)))
        with torch.no_grad():
            shape, expected = tuple(network(*sample).shape), _patch_shape(sample[0])
        if shape != expected:
            raise ValueError(f"returns patches of shape {shape}; expected {expected}")
    return network


def output_of(network: nn.Module) -> nn.Module | None:
    """What changes the patches of a network of ours after its layers; None where nothing does."""
    if not isinstance(network, models.Generator) or isinstance(network.output, models.PatchOutput):
        return None
    return network.output


def experiment(cfg: DictConfig, dataset: PtychoDataset, network: nn.Module) -> PhysicsSupervised:
    """The training module: network, physics, loss, optimizer, schedule, clip and averaging."""
    if cfg.trainer.compile:
        _check_compiler(device(cfg))
        network.compile()
    make_optimizer, schedule, clip, averaging = (
        _part(cfg, name) for name in ("optimizer", "scheduler", "clip", "averaging")
    )
    with _of_a_user("optimizer", plain(cfg.optimizer)):
        schedule(make_optimizer([nn.Parameter(torch.zeros(1))]), cfg.trainer.max_epochs)
    return PhysicsSupervised(
        network,
        torch.from_numpy(dataset.probe.copy()),
        loss(cfg, dataset),
        make_optimizer,
        schedule,
        clip,
        cfg.trainer.max_epochs,
        averaging,
        _valid(dataset),
    )


def guard(cfg: DictConfig) -> Guard:
    """What is done when training goes wrong."""
    return cast(Guard, _part(cfg, "guard"))


def _check_compiler(device: torch.device) -> None:
    """Before an epoch is begun: torch looks for a compiler only when the first batch comes."""
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise ConfigError(f"trainer.compile=true: needs a C++ compiler, {compiler} is not there")


def loss(cfg: DictConfig, dataset: PtychoDataset) -> nn.Module:
    """The loss of ``cfg.loss`` in the units of the dataset."""
    return _part(cfg, "loss")(
        mean_amplitude=dataset.mean_amplitude,
        rms_amplitude=dataset.rms_amplitude,
        photon_scale=dataset.photon_scale,
    )


def batches(cfg: DictConfig, dataset: PtychoDataset, group: Group | None = None) -> ResidentData:
    """Training and validation patterns as resident tensors, for one of a group of processes."""
    if cfg.data.drop_last and len(dataset.train.amplitude) < cfg.data.batch_size:
        raise ConfigError(
            f"data.batch_size={cfg.data.batch_size}: larger than the {len(dataset.train.amplitude)} training "
            "patterns, which data.drop_last=true would drop"
        )
    return ResidentData(
        as_batch(dataset.train),
        as_batch(dataset.validation),
        cfg.data.batch_size,
        cfg.data.drop_last,
        cfg.seed,
        group,
    )


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
    each = f"{processes} x " if processes > 1 else ""
    if device.type == "cuda":
        return each + torch.cuda.get_device_name(device)
    return f"{each}CPU, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


def processes(cfg: DictConfig) -> Group:
    """The processes of ``cfg.trainer``: this one, unless it is ddp.

    Raises ConfigError when they cannot be had, in one process of a node; the others only exit with 2.
    """
    place = place_of(os.environ)
    if cfg.trainer.get("strategy") != "ddp":
        if place is not None and place.size > 1:
            raise ConfigError(
                f"trainer: {place.size} processes were started for a run of one; add trainer=ddp"
            )
        return Group()
    try:
        cuda = device(cfg).type == "cuda"
        wanted = cfg.trainer.devices
        present = torch.cuda.device_count() if cuda else None
        if place is None and wanted is None and present is None:
            raise ConfigError("trainer.devices: needs a value on a CPU: how many processes")
        size, local_size = (place.size, place.local_size) if place else (wanted or present or 1,) * 2
        if wanted not in (None, local_size):
            raise ConfigError(f"trainer.devices={wanted}: {local_size} processes were started on this node")
        cores = max(2, os.cpu_count() or 1)
        if place is None and not cuda and local_size > cores:
            raise ConfigError(
                f"trainer.devices={local_size}: more processes than the {cores} cores there are"
            )
        if present is not None and local_size > present:
            raise ConfigError(f"trainer.devices={local_size}: each process needs a GPU, there are {present}")
        if place is None and size > 1 and in_sweep():
            raise ConfigError(
                f"trainer=ddp: the sweep's launcher has started 1 process of {size}; run it without -m"
            )
        check_divisible(cfg.data.batch_size, size)
    except ConfigError:
        if place is not None and place.local_rank > 0:
            raise SystemExit(2) from None
        raise
    command = [sys.executable, "-m", "ptychofno.train", *sys.argv[1:]]
    return Group(place, size, cuda=cuda, command=command)


def threads(cfg: DictConfig, group: Group) -> int | None:
    """CPU threads of this process: as set, else its share of the cores where several processes need them.

    None leaves torch's default, or a number from the environment.
    """
    if cfg.trainer.num_threads is not None or group.size == 1 or "OMP_NUM_THREADS" in os.environ:
        return cast("int | None", cfg.trainer.num_threads)
    return max(1, torch.get_num_threads() // group.local_size)


def reproducibly(cfg: DictConfig, group: Group) -> AbstractContextManager[None]:
    """The numerical environment of a run: its seed, threads and precision of products."""
    return reproducible(cfg.seed, threads(cfg, group), matmul_precision(cfg))


def matmul_precision(cfg: DictConfig) -> str:
    """What ``trainer.matmul_precision`` means here."""
    wanted = cast(str, cfg.trainer.matmul_precision)
    return precise_matmul_setting(device(cfg)) if wanted == "auto" else wanted


def loggers(cfg: DictConfig, run_dir: Path) -> list[Any]:
    """The live logs of ``cfg.logger``."""
    if cfg.logger.name == "none":
        return []
    from lightning.pytorch.loggers import TensorBoardLogger

    return [TensorBoardLogger(run_dir, name=None, version=artifacts.TENSORBOARD_DIR)]


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
        "valid": _valid(dataset),
    }


def _valid(dataset: PtychoDataset) -> Tensor | None:
    return None if dataset.valid is None else torch.from_numpy(dataset.valid.copy())


def _patch_shape(amplitude: Tensor) -> tuple[int, ...]:
    B, C, N, _ = amplitude.shape
    return (B, N, N, C, 2)


def _find(target: str) -> Callable[..., Any]:
    try:
        found = get_object(target)
    except Exception as error:
        raise ValueError(f"_target_={target}: no such class ({str(error).splitlines()[0]})") from error
    if not callable(found):
        raise ValueError(f"_target_={target}: not a class")
    return cast(Callable[..., Any], found)


def _part(cfg: DictConfig, group: str) -> Any:
    node = plain(cfg[group])
    with _of_a_user(group, node):
        _find(node["_target_"])
        return instantiate(node, _convert_="all")


@contextmanager
def _of_a_user(group: str, node: dict[str, Any]) -> Iterator[None]:
    """Name the part whose class does not take or do what it has to: it may be a user's own."""
    try:
        yield
    except (InstantiationException, TypeError, ValueError, RuntimeError) as error:
        name = str(node["_target_"]).rsplit(".", 1)[-1]
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        raise ConfigError(f"{group} ({name}): {' '.join(str(cause).split())[:300]}") from error

"""What does the spectral layer's form cost a whole training step?

    python experiments/bench/layers.py --threads 1

The networks people train, each with every contender in the place of its spectral layers and the same weights:
forward, physics, loss, backward, norm clip and optimizer, in turns in one process. Prints the milliseconds of
user and system time of a step of the first, and how many times as long the others take (median over turns of
the ratio within a turn, and its quartiles).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from short import ShortFFT, ShortFFT2, ShortProducts
from torch import nn

from ptychofno import models, physics
from ptychofno.config import compose
from ptychofno.models import SpectralConv2d
from ptychofno.physics import complex_patches, diffraction_amplitude
from ptychofno.training import precise_matmul_setting
from ptychofno.training.clipping import output_axes_of, total_gradient_norm
from ptychofno.training.memory import keep_freed_memory

CASES = {
    "default recipe, width 8, batch 8": ([], 8, False),
    "hybrid, width 32, batch 16": (["+arm=control"], 16, False),
    "hybrid, width 32, batch 16, bf16-mixed": (["+arm=control"], 16, True),
    "default recipe, N 128, batch 8": (["data.N=128"], 8, False),
    "hybrid, width 32, N 128, batch 4": (["+arm=control", "data.N=128"], 4, False),
}
CONTENDERS: dict[str, Callable[[SpectralConv2d], nn.Module]] = {
    "long": lambda layer: layer,
    "FFT per axis": ShortFFT,
    "rfft2": ShortFFT2,
    "products": ShortProducts,
}


def replace_layers(network: nn.Module, make: Callable[[SpectralConv2d], nn.Module]) -> None:
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, SpectralConv2d):
                setattr(module, name, make(child))


def step_of(
    cfg: DictConfig, batch: int, mixed: bool, make: Callable[[SpectralConv2d], nn.Module]
) -> Callable[[], None]:
    torch.manual_seed(0)
    size = int(cfg.data.N)
    amplitude = torch.rand(batch, 1, size, size)
    probe = torch.ones(size, size, dtype=torch.complex64)
    network = models.build_generator(
        OmegaConf.to_container(cfg.model, resolve=True),  # type: ignore[arg-type]
        size=size,
        patches=1,
        probe=probe,
        rms_amplitude=0.6,
        back_project=physics.back_projection,
        project=physics.error_reduction,
    )
    replace_layers(network, make)
    optimizer = instantiate(cfg.optimizer)(network.parameters())
    clip, axes = instantiate(cfg.clip), output_axes_of(network)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            patch = network(amplitude)
        loss = (diffraction_amplitude(complex_patches(patch.float()), probe) - amplitude).abs().mean()
        loss.backward()
        moving = [p for p in network.parameters() if p.grad is not None]
        clip(moving, axes, total_gradient_norm(moving))
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision(precise_matmul_setting(torch.device("cpu")))
    keep_freed_memory()
    print("| training step | ms |", *(f"{name} / long |" for name in list(CONTENDERS)[1:]))
    for case in args.cases:
        overrides, batch, mixed = CASES[case]
        cfg = compose(overrides)
        steps = {n: step_of(cfg, batch, mixed, make) for n, make in CONTENDERS.items()}
        for step in steps.values():
            step(), step()
        times = {name: [] for name in steps}
        for _ in range(args.turns):
            for name, step in steps.items():
                start = time.process_time()
                step()
                times[name].append(time.process_time() - start)
        first = times["long"]
        cells = []
        for name in list(steps)[1:]:
            ratios = [a / b for a, b in zip(times[name], first, strict=True)]
            low, mid, high = statistics.quantiles(ratios, n=4)
            cells.append(f"{mid:.2f} ({low:.2f}–{high:.2f})")
        print(f"| {case} | {1e3 * statistics.median(first):.1f} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()

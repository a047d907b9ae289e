"""What does the form of the spectral layer cost a whole training step?

    python experiments/bench/layers.py --threads 1

The networks that people train, with our layer and with the same on FFTs: forward, physics, loss, backward,
clip and optimizer, in turns in one process. Prints user and system time of a step with ours, and how many
times as long the other takes: median and quartiles, over the turns, of the ratio within a turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from contenders import FFTConv
from omegaconf import OmegaConf

from ptychofno import build, models, physics
from ptychofno.config.composition import compose
from ptychofno.models import SpectralConv2d
from ptychofno.physics import complex_patches, diffraction_amplitude
from ptychofno.training.clipping import output_axes_of, total_gradient_norm
from ptychofno.training.numerics import keep_freed_memory, precise_matmul_setting

HYBRID = "+arm=control"
# Overrides, batch, whether in bf16-mixed.
CASES: dict[str, tuple[list[str], int, bool]] = {
    "default recipe, width 8, batch 8": ([], 8, False),
    "`hybrid`, width 32, batch 16": ([HYBRID], 16, False),
    "`hybrid`, width 32, batch 16, bf16-mixed": ([HYBRID], 16, True),
    "default recipe, N 128, batch 8": (["data.N=128"], 8, False),
    "`hybrid`, width 32, N 128, batch 4": ([HYBRID, "data.N=128"], 4, False),
}
CONTENDERS = {"ours": SpectralConv2d, "FFT": FFTConv}


def step_of(overrides: list[str], batch: int, mixed: bool, kind: type[SpectralConv2d]) -> Callable[[], None]:
    torch.manual_seed(0)
    cfg: dict[str, Any] = OmegaConf.to_container(compose(overrides), resolve=True)  # type: ignore[assignment]
    size = cfg["data"]["N"]
    amplitude, probe = torch.rand(batch, 1, size, size), torch.ones(size, size, dtype=torch.complex64)
    network = models.build_generator(
        cfg["model"],
        size=size,
        patches=1,
        probe=probe,
        valid=None,
        rms_amplitude=0.6,
        back_project=physics.back_projection,
        project=physics.error_reduction,
    )
    for layer in network.modules():
        if isinstance(layer, SpectralConv2d):
            layer.__class__ = kind  # the same weights
    weights, axes = list(network.parameters()), output_axes_of(network)
    optimizer = models.part(cfg["optimizer"], build.find)(weights)
    clip = models.part(cfg["clip"], build.find)()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            patch = network(amplitude)
        loss = (diffraction_amplitude(complex_patches(patch.float()), probe) - amplitude).abs().mean()
        loss.backward()
        clip(weights, axes, total_gradient_norm(weights))
        optimizer.step()

    return step


def seconds_of(call: Callable[[], None]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision(precise_matmul_setting(torch.device("cpu")))
    keep_freed_memory()
    print("| training step | ours, ms | FFT / ours | quartiles |\n|---|---|---|---|")
    for case, settings in CASES.items():
        steps = [step_of(*settings, kind) for kind in CONTENDERS.values()]
        turns = [[seconds_of(step) for step in steps] for _ in range(args.turns + 2)][2:]
        low, middle, high = statistics.quantiles([other / ours for ours, other in turns], n=4)
        least = 1e3 * min(ours for ours, _ in turns)
        print(f"| {case} | {least:.0f} | {middle:.2f} | {low:.2f}–{high:.2f} |", flush=True)


if __name__ == "__main__":
    main()

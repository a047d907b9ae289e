"""What does a training step of a recipe spend where? CPU time of its parts, medians.

python experiments/bench/spent.py                      # the default recipe
python experiments/bench/spent.py +arm=recommended     # or any other
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ptychofno import build
from ptychofno.config.composition import compose
from ptychofno.config.records import settings
from ptychofno.physics import complex_patches
from ptychofno.train import setup
from ptychofno.training.batches import at, compared, parts
from ptychofno.training.numerics import keep_freed_memory

STEPS, WARM_UP = 20, 3


def main() -> None:
    cfg = compose([*sys.argv[1:], "trainer.num_threads=1"])
    keep_freed_memory()
    with build.reproducibly(cfg):
        dataset = build.dataset(settings(cfg))
        network = build.generator(cfg, dataset)
        spent = measured(setup.experiment(cfg, dataset, network), setup.batches(cfg, dataset).train, cfg)
    whole = sum(spent.values())
    print("| part | ms | share |\n|---|---|---|")
    for name, ms in spent.items():
        print(f"| {name} | {ms:.1f} | {100 * ms / whole:.0f} % |")
    print(f"| step | {whole:.1f} | |")


def measured(module: Any, samples: Any, cfg: Any) -> dict[str, float]:
    """Milliseconds of each part of a step."""
    network = module.generator
    optimizer = module.make_optimizer(network.parameters())
    batch = at(samples, slice(cfg.data.batch_size))
    times: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, function: Callable[..., Any], *args: Any) -> Any:
        began = time.process_time()
        value = function(*args)
        times[name].append(1e3 * (time.process_time() - began))
        return value

    for _ in range(STEPS + WARM_UP):
        optimizer.zero_grad(set_to_none=True)
        patch = timed("network, forward", network.own_patch, *parts(batch)[:1])
        patch = timed("rounds of error reduction", network.output, patch, *parts(batch))
        loss = timed("diffraction and loss", loss_of, module, patch, batch)
        timed("backward", loss.backward)
        timed("clip", nn.utils.clip_grad_norm_, network.parameters(), 1.0)
        timed("optimizer", optimizer.step)
    return {name: statistics.median(found[WARM_UP:]) for name, found in times.items()}


def loss_of(module: Any, patch: torch.Tensor, batch: Any) -> torch.Tensor:
    loss: torch.Tensor = module.loss(module.diffracted(complex_patches(patch)), compared(batch))
    return loss


if __name__ == "__main__":
    main()

"""What should a network that was trained on some of the photons see of a new pattern?

    python experiments/low_dose/at_use.py RUN_DIR --output experiments/low_dose

All photons; all photons at other scales of the amplitude; or the mean of what it says of several thinnings.
Every row of at_use.csv is the stitched test object before refinement.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ptychofno import build
from ptychofno.config.records import settings
from ptychofno.evaluation import judge
from ptychofno.runs import artifacts
from ptychofno.runs.naming import read
from ptychofno.runs.recorded import recomposed
from ptychofno.runs.weights import recorded_generator
from ptychofno.training.batches import Thinning, parts

COLUMNS = ("run", "sees", "ssim_amplitude", "ssim_phase", "phase_mae_rad")


class Sees(nn.Module):
    """A network that is shown what ``views`` make of a pattern; the mean of its answers."""

    def __init__(self, network: nn.Module, views: Callable[[Tensor], list[Tensor]]) -> None:
        super().__init__()
        self.network, self.views = network, views

    def forward(self, amplitude: Tensor) -> Tensor:
        return torch.stack([self.network(view) for view in self.views(amplitude)]).mean(0)


def thinnings(thin: Thinning, count: int) -> Callable[[Tensor], list[Tensor]]:
    return lambda amplitude: [parts(thin(amplitude, 1, number))[0] for number in range(count)]


def scaled(factor: float) -> Callable[[Tensor], list[Tensor]]:
    return lambda amplitude: [factor * amplitude]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("runs", metavar="RUN_DIR", nargs="+", type=Path)
    parser.add_argument("--settings", metavar="SETTING=VALUE", nargs="*", default=[])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    rows = [row for run in args.runs for row in judged(run, args.settings)]
    with (args.output / "at_use.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def judged(run: Path, more: list[str]) -> list[tuple[str, ...]]:
    file = run / artifacts.CONFIG
    cfg = recomposed(read(file), ["refine=none", *more], file, parts=("model", "data", "probe", "refine"))
    plan = settings(cfg)
    found = []
    with build.reproducibly(cfg):
        dataset = build.dataset(plan)
        network = recorded_generator(build.to_plain(cfg.model), dataset, run / artifacts.MODEL)
        thin = Thinning(cfg.data.thinning or 0.5, dataset.photon_scale)
        views: dict[str, Callable[[Tensor], list[Tensor]]] = {
            "all photons": lambda amplitude: [amplitude],
            **{f"amplitude x {by}": scaled(by) for by in (0.9, 0.95, 1.05, 1.1)},
            **{f"mean of {count} thinnings": thinnings(thin, count) for count in (1, 4, 16)},
        }
        for sees, view in views.items():
            metrics = judge(Sees(network, view), dataset, plan, build.device(cfg)).metrics
            row = (*metrics["ssim"], metrics["phase_mae_rad"])
            found.append((run.name, sees, *(f"{value:.4f}" for value in row)))
            print(*found[-1], sep=",", flush=True)
    return found


if __name__ == "__main__":
    main()

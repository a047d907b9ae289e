"""How a network dies, step by step: activations and gradients of single runs, stage by stage.

    PYTHONPATH=experiments/fall python experiments/fall/trace.py --seeds 6

Trains the small control at learning rates 1e-3 and 1e-2 (arms control_small and lr_1e-2_norm) and the leaky
decoder at 1e-2. Writes trace.csv, a line per run, stage and step, and trace.png.

Per decoder stage: ``size``, the root mean square of what it gives out; ``off``, the share of what goes into
its GELU that is below -6, where GELU and its slope are below 1e-7; ``gradient``, the norm of the gradient of
its weights, drawn at 1e-6 where it is less.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from ptychofno import build
from ptychofno.config.composition import compose
from ptychofno.config.records import settings
from ptychofno.display.drawing import DPI, INK, tidy
from ptychofno.train import setup
from ptychofno.training.fit import fit
from ptychofno.training.interruption import StopRequest
from ptychofno.training.losses import flat_baseline

HERE = Path(__file__).parent
OFF_BELOW = -6.0
STAGES = ("decoder.0", "decoder.1", "decoder.2")
COLOURS = ("#7a5ba6", "#2f6fb3", "#d1495b")
Row = dict[str, Any]


class Trace(L.Callback):
    """Collects a row per stage and step; ends training after ``steps``."""

    def __init__(self, generator: nn.Module, steps: int) -> None:
        self.steps, self.rows = steps, list[Row]()
        self._seen: dict[str, dict[str, float]] = defaultdict(dict)
        self._weights: dict[str, list[nn.Parameter]] = {}
        for name in STAGES:
            stage = generator.get_submodule(name)
            merge: Any = stage.merge
            self._weights[name] = list(stage.parameters())
            merge.first.register_forward_hook(self._watch(name, self._inputs_of_gelu))
            stage.register_forward_hook(self._watch(name, self._outputs))

    def _watch(self, name: str, what: Any) -> Any:
        def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            if module.training:
                self._seen[name] |= what(output.detach())

        return hook

    @staticmethod
    def _inputs_of_gelu(x: torch.Tensor) -> dict[str, float]:
        return {"off": float((x < OFF_BELOW).double().mean())}

    @staticmethod
    def _outputs(x: torch.Tensor) -> dict[str, float]:
        return {"size": float(x.double().square().mean().sqrt())}

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = float(module.step_record["loss"])  # type: ignore[index, union-attr]
        for name, seen in self._seen.items():
            gradients = [w.grad for w in self._weights[name] if w.grad is not None]
            norm = float(nn.utils.get_total_norm(gradients))
            self.rows.append(
                {"step": trainer.global_step, "stage": name, "loss": loss, **seen, "gradient": norm}
            )
        trainer.should_stop = trainer.global_step >= self.steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--steps", type=int, default=85)
    parser.add_argument("--seeds", type=int, nargs="+", default=[6])
    args = parser.parse_args()
    rows = []
    for arm in ("control_small", "lr_1e-2_norm", "lr_1e-2_leaky"):
        for seed in args.seeds:
            rows += [{"arm": arm, "seed": seed, **row} for row in trace(arm, seed, args.steps)]
    with (HERE / "trace.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
    draw(rows, HERE / "trace.png")


def trace(arm: str, seed: int, steps: int) -> list[Row]:
    cfg = compose([f"+arm={arm}", f"seed={seed}"], config_dir=str(HERE / "conf"))
    plan = settings(cfg)
    with build.reproducibly(cfg), tempfile.TemporaryDirectory() as scratch:
        dataset = build.dataset(plan)
        network = build.generator(cfg, dataset)
        module = setup.experiment(cfg, dataset, network)
        data = setup.batches(cfg, dataset)
        baseline, _ = flat_baseline(module.loss, data.validation, module.probe)
        collected = Trace(network, steps)
        fit(
            module,
            data,
            Path(scratch),
            flat_baseline=baseline,
            accelerator="cpu",
            precision=plan.trainer.precision,
            stop=StopRequest(),
            enable_checkpointing=False,
            callbacks=[collected],
        )
    print(f"{arm} seed {seed}: last loss {collected.rows[-1]['loss'] / baseline:.3f} of the flat object's")
    return [{**row, "loss": row["loss"] / baseline} for row in collected.rows]


def draw(rows: Sequence[Row], path: Path) -> None:
    """A column per run; loss, size, share that is off and gradient over steps, a line per stage."""
    runs = list(dict.fromkeys((row["arm"], row["seed"]) for row in rows))
    quantities = {
        "loss": "loss / flat object's",
        "size": "size of the output (rms)",
        "off": "inputs of GELU below -6",
        "gradient": "gradient of the weights",
    }
    figure = Figure(figsize=(3.6 * len(runs) + 0.6, 8.4), layout="constrained")
    panels = figure.subplots(len(quantities), len(runs), sharex=True, sharey="row", squeeze=False)
    for column, (arm, seed) in zip(panels.T, runs, strict=True):
        for panel, (quantity, label) in zip(column, quantities.items(), strict=True):
            for stage, colour in zip(STAGES, COLOURS, strict=True):
                mine = [row for row in rows if (row["arm"], row["seed"], row["stage"]) == (arm, seed, stage)]
                steps = [row["step"] for row in mine]
                values = np.array([row[quantity] for row in mine])
                if quantity in ("size", "gradient"):
                    values = np.maximum(values, 1e-6)
                    panel.set_yscale("log")
                only = quantity == "loss"
                panel.plot(steps, values, color=INK if only else colour, linewidth=1.1, label=stage)
                if only:
                    break
            if quantity == "loss":
                panel.set_ylim(0.5, 2.5)
                panel.set_title(f"{arm}, seed {seed}", fontsize=10, color=INK)
            if panel is panels[list(quantities).index(quantity), 0]:
                panel.set_ylabel(label, fontsize=9, color=INK)
            tidy(panel, 8)
    panels[1, 0].legend(fontsize=8, frameon=False)
    for panel in panels[-1]:
        panel.set_xlabel("optimizer step", fontsize=9, color=INK)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI, facecolor="white")


if __name__ == "__main__":
    main()

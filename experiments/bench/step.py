"""What does a training step cost, and what do the choices that change it bring?

    python experiments/bench/step.py --threads 1

Trains each variant for some steps as the command does, in a process of its own; the variants of a network
take turns. Writes step.json and step.md: user and system time of a step (on a GPU by the clock; median over
steps, least over turns), the ratio to the first variant (median over turns), and the peak of the process's
memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import lightning as L
import torch

from ptychofno import build
from ptychofno.config.composition import compose
from ptychofno.config.records import settings
from ptychofno.train import setup
from ptychofno.training.fit import fit
from ptychofno.training.interruption import StopRequest
from ptychofno.training.numerics import keep_freed_memory

CHOICES = (
    "clip=none",
    "clip=agc",
    "model/block=layerscale",
    "trainer.matmul_precision=highest",
    "trainer.precision=bf16-mixed",
    "trainer.compile=true",
)
DEEP = "model.checkpoint_activations=true"
NETWORKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "width 8, batch 8": ("+arm=recommended", ("optimizer=adam", *CHOICES)),
    "width 32, batch 16": ("+arm=control clip=norm data=grid_lines_small", ("optimizer=muon", *CHOICES)),
    "depth, width 32, batch 16": (
        "+arm=control clip=norm data=grid_lines_small",
        (
            DEEP,
            "model.fno_blocks=6 model.max_hidden_channels=128",
            f"model.fno_blocks=6 model.max_hidden_channels=512 {DEEP}",
            "model.fno_blocks=8 model.max_hidden_channels=128",
            "model.fno_blocks=8 model.max_hidden_channels=512",
            f"model.fno_blocks=8 model.max_hidden_channels=512 {DEEP}",
        ),
    ),
}
WARM_UP = 5
Measured = dict[str, float]


class Clock(L.Callback):
    """Seconds of every step after the first ``WARM_UP``; ends training after ``steps``."""

    def __init__(self, steps: int) -> None:
        self.steps, self.times = steps, list[float]()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            self.times.append(time.perf_counter())
        else:
            self.times.append(time.process_time())
        trainer.should_stop = trainer.global_step >= WARM_UP + self.steps

    @property
    def median(self) -> float:
        late = self.times[WARM_UP - 1 :]
        return statistics.median(after - before for before, after in pairwise(late))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.steps)))
        return
    found = {name: take_turns(name, args) for name in args.networks}
    record = {"torch": torch.__version__, "threads": args.threads, "networks": found}
    (args.out / "step.json").write_text(json.dumps(record, indent=1) + "\n")
    (args.out / "step.md").write_text("\n\n".join(table(name, turns) for name, turns in found.items()) + "\n")


def take_turns(name: str, args: argparse.Namespace) -> dict[str, list[Measured]]:
    base, variants = NETWORKS[name]
    turns: dict[str, list[Measured]] = {variant: [] for variant in ("", *variants)}
    for turn in range(args.turns):
        for variant, found in turns.items():
            words = [*base.split(), *variant.split(), f"trainer.num_threads={args.threads}"]
            command = [sys.executable, __file__, "--steps", str(args.steps), "--one", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{name}, turn {turn + 1}: {variant or 'as it is'}: {found[-1]}", flush=True)
    return turns


def measure(overrides: list[str], steps: int) -> Measured:
    keep_freed_memory()
    cfg = compose(overrides)
    plan = settings(cfg)
    clock = Clock(steps)
    with build.reproducibly(cfg), tempfile.TemporaryDirectory() as scratch:
        dataset = build.dataset(plan)
        network = build.generator(cfg, dataset)
        fit(
            setup.experiment(cfg, dataset, network),
            setup.batches(cfg, dataset),
            Path(scratch),
            flat_baseline=1.0,
            accelerator="auto",
            precision=plan.trainer.precision,
            stop=StopRequest(),
            enable_checkpointing=False,
            callbacks=[clock],
        )
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    parameters = sum(weight.numel() for weight in network.parameters())
    return {"seconds": clock.median, "peak_mib": peak, "parameters": parameters}


def table(name: str, turns: dict[str, list[Measured]]) -> str:
    first = turns[""]
    lines = [f"| {name} | ms | ratio | peak MiB | parameters |", "|---" * 5 + "|"]
    for variant, found in turns.items():
        ratio = statistics.median(a["seconds"] / b["seconds"] for a, b in zip(found, first, strict=True))
        least = 1e3 * min(one["seconds"] for one in found)
        peak, parameters = max(one["peak_mib"] for one in found), found[0]["parameters"]
        title = f"`{variant}`" if variant else "as it is"
        lines.append(f"| {title} | {least:.1f} | {ratio:.2f} | {peak:.0f} | {parameters / 1e6:.2f} M |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

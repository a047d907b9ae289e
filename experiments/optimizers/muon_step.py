"""What a step of Muon costs with products in single precision and in bfloat16.

    python experiments/optimizers/muon_step.py

CPU time of one step for ``hybrid`` at three widths, one thread, least of 20 taken in turns.
"""

from __future__ import annotations

import time
from unittest import mock

import torch

from ptychofno.models import AmplitudeInput, HybridUNOGenerator
from ptychofno.training import muon
from ptychofno.training.muon import Muon
from ptychofno.training.numerics import keep_freed_memory

TURNS = 20


def cpu_ms(optimizer: Muon) -> float:
    started = time.process_time()
    optimizer.step()
    return 1e3 * (time.process_time() - started)


def main() -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    print("| width | float32, ms | bfloat16, ms |\n|---|---|---|")
    for width in (8, 16, 32):
        inputs = AmplitudeInput(1.0)
        network = HybridUNOGenerator(inputs, 1, 64, hidden_channels=width)
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer = Muon(network.parameters(), lr=1e-4)
        cpu_ms(optimizer)
        wide, narrow = [], []
        for _ in range(TURNS):
            with mock.patch.object(muon, "_products_in", lambda x: x.dtype):
                wide.append(cpu_ms(optimizer))
            narrow.append(cpu_ms(optimizer))
        print(f"| {width} | {min(wide):.1f} | {min(narrow):.1f} |", flush=True)


if __name__ == "__main__":
    main()

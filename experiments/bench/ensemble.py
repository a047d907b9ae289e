"""Would K seeds trained as one batched network be faster than one after the other?

    python experiments/bench/ensemble.py --threads 2

What a training step is made of, for K networks of the default width: each operation K times, against the
same work as one batched operation (grouped convolution, one batched matrix product, one elementwise pass),
forward and backward, and the whole network under ``torch.func.vmap``. Freed memory is kept, as in
training. Writes ensemble.json and prints a table of ratios: above 1 the batched form wins.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from ptychofno.models import HybridUNOGenerator, PtychoBlock
from ptychofno.models.inputs import AmplitudeInput
from ptychofno.training.numerics import keep_freed_memory

WIDTH, BATCH = 16, 8
LEVELS = ((64, 16), (32, 32), (16, 64), (8, 128))
Call = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", message=".*batching rule.*")
    rows = []
    for seeds in args.seeds:
        for size, channels in LEVELS:
            rows.append(
                compare(f"convolution 3×3, {channels} at {size}²", seeds, conv(seeds, size, channels), args)
            )
        for size, channels in LEVELS[2:]:
            rows.append(
                compare(f"mode mixing, {channels} at {size}²", seeds, mixing(seeds, channels, size), args)
            )
        rows.append(compare("GELU, 16 at 64²", seeds, gelu(seeds), args))
        rows.append(compare("whole network", seeds, network(seeds), args))
    result = {"torch": torch.__version__, "threads": args.threads, "device": args.device, "rows": rows}
    (args.out / "ensemble.json").write_text(json.dumps(result, indent=1) + "\n")


def compare(name: str, seeds: int, calls: tuple[Call, Call], args: argparse.Namespace) -> dict[str, object]:
    """Medians of alternating calls, and of their ratio."""
    times: list[tuple[float, float]] = []
    for call in calls:
        call()
    for _ in range(args.repetitions):
        times.append((seconds(calls[0], args.device), seconds(calls[1], args.device)))
    apart, together = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    milliseconds = f"apart {1e3 * apart:8.1f} ms  batched {1e3 * together:8.1f} ms"
    print(f"K={seeds:2d}  {name:32s} {milliseconds}  ratio {ratio:5.2f}", flush=True)
    return {"seeds": seeds, "what": name, "apart_s": apart, "batched_s": together, "ratio": ratio}


def seconds(call: Call, device: str) -> float:
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


def both_ways(forward: Callable[[], Tensor], inputs: list[Tensor]) -> Call:
    def call() -> None:
        for tensor in inputs:
            tensor.grad = None
        out = forward()
        out.backward(torch.ones_like(out))

    return call


def conv(seeds: int, size: int, channels: int) -> tuple[Call, Call]:
    xs = [torch.randn(BATCH, channels, size, size, requires_grad=True) for _ in range(seeds)]
    ws = [torch.randn(channels, channels, 3, 3, requires_grad=True) for _ in range(seeds)]
    x = torch.cat([x.detach() for x in xs], dim=1).requires_grad_()
    w = torch.cat([w.detach() for w in ws]).requires_grad_()
    each = [
        both_ways(lambda x=x, w=w: F.conv2d(x, w, padding=1), [x, w]) for x, w in zip(xs, ws, strict=True)
    ]
    return lambda: [call() for call in each], both_ways(
        lambda: F.conv2d(x, w, padding=1, groups=seeds), [x, w]
    )


def mixing(seeds: int, channels: int, size: int) -> tuple[Call, Call]:
    modes = size * (size // 2 + 1)
    xs = [torch.randn(modes, 2 * BATCH, 2 * channels, requires_grad=True) for _ in range(seeds)]
    ws = [torch.randn(modes, 2 * channels, channels, requires_grad=True) for _ in range(seeds)]
    x = torch.cat([x.detach() for x in xs]).requires_grad_()
    w = torch.cat([w.detach() for w in ws]).requires_grad_()
    each = [both_ways(lambda x=x, w=w: x @ w, [x, w]) for x, w in zip(xs, ws, strict=True)]
    return lambda: [call() for call in each], both_ways(lambda: x @ w, [x, w])


def gelu(seeds: int) -> tuple[Call, Call]:
    xs = [torch.randn(BATCH, 16, 64, 64, requires_grad=True) for _ in range(seeds)]
    x = torch.stack([x.detach() for x in xs]).requires_grad_()
    each = [both_ways(lambda x=x: F.gelu(x), [x]) for x in xs]
    return lambda: [call() for call in each], both_ways(lambda: F.gelu(x), [x])


def network(seeds: int) -> tuple[Call, Call]:
    inputs = AmplitudeInput(1.0)
    networks = [
        HybridUNOGenerator(inputs, 1, 64, block=PtychoBlock, hidden_channels=WIDTH) for _ in range(seeds)
    ]
    amplitude = torch.rand(seeds, BATCH, 1, 64, 64)
    parameters, buffers = stack_module_state(networks)
    skeleton = networks[0]

    def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(skeleton, (parameters, buffers), (x,))

    apart = [
        both_ways(lambda net=net, x=x: net(x), list(net.parameters()))
        for net, x in zip(networks, amplitude, strict=True)
    ]
    together = both_ways(lambda: vmap(one)(parameters, buffers, amplitude), list(parameters.values()))
    return lambda: [call() for call in apart], together


if __name__ == "__main__":
    main()

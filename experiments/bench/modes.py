"""How a training step of ``hybrid`` is best run: eagerly, compiled, or as a CUDA graph; in which precision?

    python experiments/bench/modes.py --out outputs/bench        # with --device cpu to try it

Times forward, physics, loss, backward and Adam of a batch that lies on the device. Cases that are in
modes.json already are not run again. A case that fails says why and stops nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import torch
from contenders import hybrid

from ptychofno.physics import complex_patches, diffraction_amplitude

PRECISIONS = {
    "float32": ("highest", None),
    "TF32": ("high", None),
    "bf16-mixed": ("highest", torch.bfloat16),
}
WAYS = ("eager", "compiled", "graph")
WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "modes.json"
    found: dict[str, float | str] = json.loads(path.read_text()) if path.exists() else {}
    for size, batch, precision, way in product(args.sizes, args.batches, PRECISIONS, WAYS):
        name = f"N {size}, batch {batch}, {precision}, {way}"
        if name in found or (way == "graph" and args.device == "cpu"):
            continue
        try:
            found[name] = median_ms(size, batch, precision, way, args)
        except RuntimeError as error:  # out of memory, or what a compiler cannot do
            found[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
        print(f"{name}: {found[name]}", flush=True)
        path.write_text(json.dumps(found, indent=1) + "\n")
    (args.out / "modes.md").write_text(table(found))


def median_ms(size: int, batch: int, precision: str, way: str, args: argparse.Namespace) -> float:
    """Milliseconds of a step, the median of ``steps``."""
    torch.manual_seed(0)
    matmul, mixed = PRECISIONS[precision]
    torch.set_float32_matmul_precision(matmul)
    network = hybrid("ours", size, "channels_last" if args.device == "cpu" else "contiguous").to(args.device)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4, capturable=way == "graph")
    measured = torch.rand(batch, 1, size, size, device=args.device)
    probe = torch.ones(size, size, dtype=torch.complex64, device=args.device)
    if way == "compiled":
        network.compile()

    def step() -> None:
        optimizer.zero_grad(set_to_none=way != "graph")
        with torch.autocast(args.device, mixed, enabled=mixed is not None):
            patch = complex_patches(network(measured).float())
        (diffraction_amplitude(patch, probe) - measured).abs().mean().backward()
        optimizer.step()

    return 1e3 * timed(captured(step) if way == "graph" else step, args.steps, args.device)


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """The step as a CUDA graph, after a few on a stream of their own, as torch asks for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


def timed(step: Callable[[], None], steps: int, device: str) -> float:
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    times = []
    for _ in range(WARM_UP + steps):
        wait()
        start = time.perf_counter()
        step()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times[WARM_UP:])


def table(found: dict[str, float | str]) -> str:
    lines = ["| case | ms |", "|---|---|"]
    lines += [
        f"| {name} | {ms if isinstance(ms, str) else format(ms, '.2f')} |" for name, ms in found.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

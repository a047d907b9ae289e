"""How fast is the spectral layer? One run, contenders interleaved, medians and ratios.

    make bench                                   # everything, a quarter of an hour
    python experiments/bench/bench.py --quick    # few cases, two minutes

Writes results.json, table.md and figure.png into --out; of the sections that are not run anew, what an
earlier run on the same machine with the same contenders left there stays. Ratios are medians of the ratios
within one repetition, so that a machine that is busy with something else slows both sides of each. Each
contender runs in the layout of memory that is the fastest for it, and all with malloc as in training.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import matplotlib
import torch
from contenders import (
    CHANNELS_LAST,
    CONTENDERS,
    NOTHING,
    give_the_same_weights,
    hybrid,
    laid_out,
    layouts,
)
from torch import Tensor, nn

from ptychofno.models import Band, kept_modes
from ptychofno.physics import complex_patches, diffraction_amplitude
from ptychofno.training.numerics import keep_freed_memory, precise_matmul_setting

Call = Callable[[], object]
MODES = 12
LEVELS = ((64, 32), (32, 64), (16, 128), (8, 256))
STEPS = ("forward", "forward + backward", "training step")
MIXED = "bf16-mixed"
PEAK = "matrix product"
PEAK_SIZE = 1024


@dataclass
class Case:
    """One comparison: what was timed, the seconds of each contender in every repetition, its layout."""

    section: str
    device: str
    name: str
    size: int
    batch: int
    what: str
    flops: float
    wall: dict[str, list[float]]
    cpu: dict[str, list[float]]
    layouts: dict[str, str]

    def ratio(self, other: str, clock: str = "wall") -> float:
        """How many times longer ``other`` takes than ours."""
        times = getattr(self, clock)
        return statistics.median(b / a for a, b in zip(times["ours"], times[other], strict=True))

    def peak_fraction(self) -> float:
        """Our rate of multiplications and additions, over that of a large matrix product."""
        ours, peak = (statistics.median(self.wall[name]) for name in ("ours", PEAK))
        return (self.flops / ours) / (2 * PEAK_SIZE**3 / peak)


def interleave(
    calls: dict[str, Call], device: str, seconds: float, turns: int = 5
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Time A, B, C, A, B, C, … for about ``seconds``, at least ``turns`` times each."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    end = time.perf_counter() + seconds
    while min(map(len, wall.values())) < turns or time.perf_counter() < end:
        for name, call in calls.items():
            wait()
            start, start_cpu = time.perf_counter(), time.process_time()
            call()
            wait()
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - start_cpu)
    return wall, cpu


def flops_of_layer(channels: int, batch: int, band: Band) -> tuple[float, float]:
    """Multiplications and additions of one transform and of one mixing of the channels."""
    assert band.grid is not None
    (H, W), R, K = band.grid, band.rows, band.columns
    transform = 2.0 * batch * channels * H * K * (2 * W + 4 * R)
    return transform, 8.0 * batch * channels**2 * K * R


def layer_case(
    section: str, device: str, size: int, channels: int, batch: int, what: str, args: argparse.Namespace
) -> Case:
    band = kept_modes(MODES, size)
    layers = {name: make(channels, band).to(device) for name, make in args.contenders.items()}
    give_the_same_weights(layers, band)
    values, gradient = torch.randn(2, batch, channels, size, size, device=device)
    for name, layer in layers.items():
        with torch.no_grad():
            torch.testing.assert_close(layer(values), layers["ours"](values), atol=1e-3, rtol=1e-3, msg=name)
    # The first that a network may run in: that in which its layer is the fastest.
    used = {name: layouts(name, device)[0] for name in layers}

    transform, mixing = flops_of_layer(channels, batch, band)
    flops = 2 * transform + mixing if what == "forward" else 4 * transform + 3 * mixing
    calls = {name: pass_of(layer, values, gradient, used[name], what) for name, layer in layers.items()}
    calls[PEAK] = peak_call(device)
    times = interleave(calls, device, args.seconds)
    return Case(section, device, f"{channels} channels", size, batch, what, flops, *times, used)


def convolution_case(device: str, size: int, channels: int, what: str, args: argparse.Namespace) -> Case:
    """The 3×3 convolution beside the spectral layer, which all contenders share."""
    layer = nn.Conv2d(channels, channels, 3, padding=1).to(device)
    layout = layouts("ours", device)[0]
    values, gradient = torch.randn(2, 16, channels, size, size, device=device)
    flops = 2.0 * 16 * size**2 * 9 * channels**2 * (1 if what == "forward" else 3)
    calls = {"ours": pass_of(layer, values, gradient, layout, what), PEAK: peak_call(device)}
    times = interleave(calls, device, args.seconds / 2)
    used = {"ours": layout}
    return Case("convolution", device, f"{channels} channels", size, 16, what, flops, *times, used)


def pass_of(layer: nn.Module, values: Tensor, gradient: Tensor, layout: str, what: str) -> Call:
    """Forward, or forward and backward, of a layer with its activations in a layout."""
    x = laid_out(values, layout).requires_grad_(what != "forward")
    upstream = laid_out(gradient, layout)

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    def both() -> None:
        layer.zero_grad(set_to_none=True)
        x.grad = None
        layer(x).backward(upstream)

    return forward if what == "forward" else both


def peak_call(device: str) -> Call:
    left, right = torch.randn(2, PEAK_SIZE, PEAK_SIZE, device=device)
    return lambda: left @ right


def network_case(device: str, size: int, batch: int, what: str, args: argparse.Namespace) -> Case:
    step, _, arithmetic = what.partition(", ")
    measured = torch.rand(batch, 1, size, size, device=device)
    probe = torch.ones(size, size, dtype=torch.complex64, device=device)

    def call(network: nn.Module) -> Call:
        real = not any(weight.is_complex() for weight in network.parameters())
        optimizer = torch.optim.Adam(network.parameters(), 1e-4, fused=real)  # refused for complex weights

        mixed = partial(torch.autocast, device, torch.bfloat16, enabled=arithmetic == MIXED)

        def forward() -> None:
            with torch.no_grad(), mixed():
                network(measured)

        def both() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            with mixed():
                patch = complex_patches(network(measured).float())
            loss = (diffraction_amplitude(patch, probe) - measured).abs().mean()
            loss.backward()
            return loss

        def whole_step() -> None:
            both()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

        return {"forward": forward, "forward + backward": both, "training step": whole_step}[step]

    def of(name: str, layout: str) -> Call:
        torch.manual_seed(0)
        return call(hybrid(name, size, layout).to(device))

    names = [*args.contenders, NOTHING]
    used = {name: fastest(partial(of, name), layouts(name, device), device) for name in names}
    calls = {name: of(name, layout) for name, layout in used.items()} | {PEAK: peak_call(device)}
    times = interleave(calls, device, args.seconds)
    return Case("network", device, "hybrid", size, batch, what, float("nan"), *times, used)


def fastest(make: Callable[[str], Call], choices: tuple[str, ...], device: str) -> str:
    """The layout in which a call takes the least CPU time, of three turns."""
    if len(choices) == 1:
        return choices[0]
    _, cpu = interleave({choice: make(choice) for choice in choices}, device, 0, turns=3)
    return min(choices, key=lambda choice: min(cpu[choice]))


def cases(args: argparse.Namespace) -> Iterator[Case]:
    for device in args.devices:
        torch.set_float32_matmul_precision(precision(device, args))
        if "levels" in args.sections:
            for size, channels in LEVELS:
                for what in ("forward", "forward + backward"):
                    yield layer_case("levels", device, size, channels, 16, what, args)
        if "convolution" in args.sections:
            for size, channels in LEVELS:
                for what in ("forward", "forward + backward"):
                    yield convolution_case(device, size, channels, what, args)
        if "sizes" in args.sections:
            for size in (64, 128, 256):
                for batch in (1, 16) if args.quick else (1, 4, 16, 64, 256):
                    # The full complex spectra of the textbook layer take a dozen times its input.
                    if batch * 32 * size**2 <= args.largest:
                        for what in ("forward", "forward + backward"):
                            yield layer_case("sizes", device, size, 32, batch, what, args)
        if "network" in args.sections:
            for size in (64,) if args.quick else (64, 128, 256):
                for batch in (16,) if args.quick else (1, 16, 64, 256):
                    # A step of more takes a CPU ten seconds, and shows nothing that this does not.
                    largest = args.largest / (4 if device == "cpu" else 1)
                    if batch * 32 * size**2 <= largest:
                        steps = ("training step", f"training step, {MIXED}") if batch == 16 else STEPS[-1:]
                        for what in steps if args.quick else dict.fromkeys((*STEPS, *steps)):
                            yield network_case(device, size, batch, what, args)


def sum_of_levels(done: list[Case], what: str, other: str, clock: str) -> float:
    """How many times longer ``other`` takes for the four levels of ``hybrid`` together."""
    levels = [case for case in done if case.section == "levels" and case.what == what]
    both = [sum(statistics.median(getattr(c, clock)[name]) for c in levels) for name in (other, "ours")]
    return both[0] / both[1]


def table(done: list[Case], others: list[str]) -> str:
    head = ["section", "device", "case", "N", "batch", "what", "ours ms", *(f"{o} / ours" for o in others)]
    head += [f"{o} / ours, CPU time" for o in others] + [f"{NOTHING} / ours", "of peak", "in channels_last"]
    rows = []
    for case in done:
        row = [case.section, case.device, case.name, str(case.size), str(case.batch), case.what]
        row.append(f"{1e3 * statistics.median(case.wall['ours']):.2f}")
        known = [(other, clock) for clock in ("wall", "cpu") for other in others]
        row += [f"{case.ratio(o, clock):.2f}" if o in case.wall else "" for o, clock in known]
        row.append(f"{case.ratio(NOTHING):.2f}" if NOTHING in case.wall else "")
        row.append("" if case.flops != case.flops else f"{case.peak_fraction():.2f}")
        row.append(", ".join(name for name, layout in case.layouts.items() if layout == CHANNELS_LAST))
        rows.append(row)
    for device in sorted({case.device for case in done if case.section == "levels"}):
        here = [case for case in done if case.device == device]
        for what in sorted({case.what for case in here if case.section == "levels"}):
            sums = [f"{sum_of_levels(here, what, o, c):.2f}" for c in ("wall", "cpu") for o in others]
            rows.append(["levels", device, "sum of the four", "", "16", what, "", *sums, "", "", ""])
    return markdown(head, rows) + "\n"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figure(done: list[Case], others: list[str], path: Path) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = [c for c in done if set(others) <= set(c.wall) and c.what != "forward"]
    fig, axes = plt.subplots(figsize=(8, 1 + 0.28 * len(shown)), layout="constrained")
    for index, other in enumerate(others):
        offset = (index - (len(others) - 1) / 2) * 0.8 / len(others)
        places = [place + offset for place in range(len(shown))]
        axes.barh(places, [case.ratio(other) for case in shown], 0.8 / len(others), label=other)
    labels = [f"{c.device} {c.name}, N {c.size}, batch {c.batch}, {c.what}" for c in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize=7)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("time relative to ours")
    axes.legend()
    fig.savefig(path, dpi=120)


def kept(args: argparse.Namespace) -> list[Case]:
    """The cases of other sections that an earlier run left."""
    path = args.out / "results.json"
    if not path.exists():
        return []
    record = json.loads(path.read_text())
    cases = [Case(**case) for case in record["cases"] if case["section"] not in args.sections]
    same = record["machine"] == machine(args)
    timed = [
        {*case.wall} - {PEAK, NOTHING} for case in cases if case.section in ("levels", "sizes", "network")
    ]
    comparable = all(names == {*args.contenders} for names in timed)
    if cases and not (same and comparable):
        print(f"{path} is of another machine or of other contenders: it is not kept")
        return []
    return cases


def machine(args: argparse.Namespace) -> dict[str, object]:
    return {
        "torch": torch.__version__,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if "cuda" in args.devices else None,
        "float32_matmul_precision": {device: precision(device, args) for device in args.devices},
    }


def precision(device: str, args: argparse.Namespace) -> str:
    """As a run on this device has it, unless said."""
    return precise_matmul_setting(torch.device(device)) if args.precision == "auto" else args.precision


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return names[0].split(":")[1].strip() if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    sections = ["levels", "convolution", "sizes", "network"]
    parser.add_argument("--sections", nargs="+", choices=sections, default=sections)
    parser.add_argument("--quick", action="store_true", help="few cases, two minutes")
    parser.add_argument("--seconds", type=float, help="per case (2.5, quick 2)")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--devices", nargs="+", choices=["cpu", "cuda"], help="all there are")
    parser.add_argument("--without", nargs="+", choices=["rfft2", "neuraloperator"], default=[])
    parser.add_argument(
        "--largest", type=float, default=2**25, help="skip inputs of more numbers than this (33,554,432)"
    )
    parser.add_argument(
        "--precision",
        choices=["auto", "highest", "high", "medium"],
        default="auto",
        help="as trainer.matmul_precision",
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    args.seconds = args.seconds or (2 if args.quick else 2.5)
    args.devices = args.devices or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    args.contenders = {name: make for name, make in CONTENDERS.items() if name not in args.without}
    others = [name for name in args.contenders if name != "ours"]
    if args.threads:
        torch.set_num_threads(args.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    done = kept(args)
    for case in cases(args):
        done = sorted([*done, case], key=lambda one: sections.index(one.section))
        ratios = ", ".join(f"{other} {case.ratio(other):.2f}" for other in case.wall if other != "ours")
        print(f"{case.section} {case.device} {case.name} N={case.size} B={case.batch} {case.what}: {ratios}")
        args.out.mkdir(parents=True, exist_ok=True)  # after every case: an interrupted run keeps what it has
        record = {"machine": machine(args), "cases": [asdict(case) for case in done]}
        (args.out / "results.json").write_text(json.dumps(record) + "\n")
        (args.out / "table.md").write_text(table(done, others))
    figure(done, others, args.out / "figure.png")
    print(table(done, others))


if __name__ == "__main__":
    main()

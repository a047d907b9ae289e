"""A trained network as a file for other programs: ``python -m ptychofno.export RUN_DIR --format onnx``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptychofno.config.errors import ConfigError, exit_codes
from ptychofno.runs import artifacts
from ptychofno.runs.naming import read
from ptychofno.runs.standing import read_where_it_was

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

NAMES = {"onnx": "model.onnx", "torch": "model.pt2"}
TRACED, CHECKED = 2, 7
"""Patterns to follow through the network, and to check with: another number, as the file is to take any."""
TOLERANCE = 1e-3


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ptychofno.export",
        description="Write the network of a run as a file that needs no ptychofno: measured amplitudes"
        " (B, C, N, N) in, real and imaginary part of the patches (B, N, N, C, 2) out, probe and weights"
        " inside. The file is checked against the network on patterns of the run. Patches of a sample that"
        " share an object (gridsize > 1) come out one by one, not averaged.",
    )
    add = parser.add_argument
    add("run_dir", metavar="RUN_DIR", type=Path, help="a finished run")
    add("--format", choices=sorted(NAMES), default="onnx", help="onnx, or torch: for torch.export.load")
    add("--output", metavar="FILE", type=Path, help="default: model.onnx or model.pt2 in RUN_DIR")
    args = parser.parse_args(argv)
    with exit_codes():
        export(args.run_dir, args.format, args.output or args.run_dir / NAMES[args.format])


def export(run_dir: Path, form: str, file: Path) -> None:
    """Write ``file`` once it has been checked. Raises ConfigError where it cannot be made or differs."""
    from ptychofno.runs.weights import load_model

    network = load_model(run_dir / artifacts.MODEL).eval()
    amplitude = patterns_of(run_dir)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells what else is not installed
    try:
        artifacts.write_with(file, partial(_write, network=network, amplitude=amplitude, form=form))
    except ModuleNotFoundError as missing:
        raise ConfigError(f"--format={form}: {missing}; pip install ptychofno[onnx]") from None
    except OSError as error:
        raise ConfigError(f"--output={file}: cannot be written: {error.strerror}") from None
    print(file)


def patterns_of(run_dir: Path) -> Tensor:
    """A few measured amplitudes of the run's test patterns, (n, C, N, N)."""
    from ptychofno import build
    from ptychofno.config.records import settings
    from ptychofno.runs.recorded import recomposed

    values = read(run_dir / artifacts.CONFIG)
    plan = settings(recomposed(values, [], run_dir / artifacts.CONFIG))
    read_where_it_was(plan, build.dataset_key(plan), values["data"].get("cache_dir"))
    amplitude: Any = build.as_batch(build.dataset(plan).test, slice(CHECKED))
    return amplitude if not isinstance(amplitude, tuple) else amplitude[0]


def _write(file: Path, network: nn.Module, amplitude: Tensor, form: str) -> None:
    import torch

    class OwnPatches(torch.nn.Module):
        """Without positions, which are for patches that share an object."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, amplitude: Tensor) -> Any:
            return self.network(amplitude)

    sample, shapes = (amplitude[:TRACED],), {"amplitude": {0: torch.export.Dim("patterns", max=65536)}}
    with torch.no_grad():
        expected = network(amplitude).numpy()
        exported = torch.export.export(OwnPatches().eval(), sample, dynamic_shapes=shapes)
    if form == "torch":
        torch.export.save(exported, file)
        found = torch.export.load(file).module()(amplitude).detach().numpy()
    else:
        found = _written_as_onnx(exported, file, amplitude.numpy())
    worst = float(abs(found - expected).max() / abs(expected).max())
    if not worst <= TOLERANCE:
        raise ConfigError(f"--format={form}: differs from the network by {worst:.1e} of the largest value")
    print(f"differs from the network by {worst:.1e} of the largest value, on {len(amplitude)} patterns")


def _written_as_onnx(exported: Any, file: Path, amplitude: np.ndarray) -> np.ndarray:
    """What the file makes of the patterns."""
    import onnxruntime
    import torch

    names: dict[str, Any] = {"input_names": ["amplitude"], "output_names": ["patch"]}
    try:
        program = torch.onnx.export(exported, dynamo=True, verbose=False, **names)
    except torch.onnx.errors.OnnxExporterError as error:
        raise ConfigError(f"--format=onnx: {' '.join(str(error).split())[-300:]}; use torch") from error
    assert program is not None
    program.save(str(file))
    session = onnxruntime.InferenceSession(file.read_bytes())
    found: np.ndarray = session.run(None, {"amplitude": amplitude})[0]
    return found


if __name__ == "__main__":
    main()

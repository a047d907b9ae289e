"""Parts from outside the package: the README's example word for word, and one of each other kind."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from ptychofno import activations, build, reconstruct
from ptychofno.command import line
from ptychofno.config.errors import ConfigError
from ptychofno.runs import artifacts
from ptychofno.runs.weights import load_model
from ptychofno.train import train

README = Path(__file__).parents[1] / "README.md"

PARTS = """
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Gt
from torch import nn
from typing_extensions import Doc

from ptychofno.data.objects import SimulatedData, Transmission


class RootLoss(nn.Module):
    def __init__(self, mean_amplitude, power: Annotated[float, Gt(0), Doc("of the distance")] = 1.0):
        super().__init__()
        self.mean_amplitude, self.power = mean_amplitude, power

    def forward(self, predicted, measured):
        return (predicted - measured).abs().pow(self.power).mean() / self.mean_amplitude


@dataclass
class HalfClip:
    share: Annotated[float, Gt(0), Doc("of every gradient that stays")] = 0.5

    def __call__(self, parameters, output_axes, norm):
        for parameter in parameters:
            parameter.grad.mul_(self.share)
        return self.share * norm


@dataclass(kw_only=True)
class DiscsData(SimulatedData):
    discs: Annotated[int, Gt(0), Doc("discs of one object")] = 30

    def draw(self, purpose, index, rng):
        rows, cols = np.mgrid[: self.size, : self.size]
        image = np.zeros((self.size, self.size))
        for row, col in rng.uniform(0, self.size, (self.discs, 2)):
            image += np.hypot(rows - row, cols - col) < 6
        return Transmission(0.5 + image / image.max() / 2, image / image.max())
"""

FILES = {
    "loss/root": "_target_: ownparts.RootLoss\npower: 1.0\n",
    "clip/half": "_target_: ownparts.HalfClip\nshare: 0.5\n",
    "optimizer/radam": "_target_: torch.optim.RAdam\nlr: 1e-3\n",
    "scheduler/one_cycle": "_target_: torch.optim.lr_scheduler.OneCycleLR\nmax_lr: 1e-3\ninterval: step\n",
    "data/discs": "_target_: ownparts.DiscsData\nname: discs\nN: 32\nsize: 96\ntrain_step_px: 8\n"
    "validation_step_px: 16\ntest_step_px: 16\ndiscs: 20\n",
}


@pytest.fixture
def _outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with the README's example and the parts above, outside of the package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("mylab", "ownparts"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    example = README.read_text(encoding="utf-8").partition("## A part of your own")[2]
    (code,) = re.findall(r"```python\n(.*?)```", example, re.DOTALL)
    (block,) = re.findall(r"```yaml\n(.*?)```", example, re.DOTALL)
    (tmp_path / "mylab.py").write_text(code)
    (tmp_path / "ownparts.py").write_text(PARTS)
    for name, content in {"model/block/gated": block, **FILES}.items():
        file = tmp_path / f"mylab/{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


OWN = ["--config-dir", "mylab"]
TINY = ["trainer.max_epochs=1", "logger=csv", "refine=none", "run_dir=own"]
TINY += ["model.hidden_channels=4", "model.fno_blocks=2"]
ALL = [
    "model/block=gated",
    "model.block.gain=0.2",
    *("loss=root", "clip=half", "optimizer=radam", "scheduler=one_cycle", "data=discs"),
]


@pytest.mark.usefixtures("_outside")
def test_parts_from_outside_work_in_every_command() -> None:
    line.run(train, [*OWN, *TINY, *ALL])
    run = Path("own")
    history = artifacts.read_json(run / artifacts.HISTORY)
    assert len(history["val_loss"]) == 1 and (run / "csv").is_dir()
    network = load_model(run / artifacts.MODEL, trust=["mylab.GatedBlock"])
    assert network.encoder[0].gain == 0.2
    with pytest.raises(ConfigError, match=r"mylab\.GatedBlock.*not one of ours"):
        load_model(run / artifacts.MODEL)

    reconstruct.main([*OWN, "own", "data.nphotons=1e6"])
    (again,) = (run / "reconstructions").iterdir()
    with np.load(again / artifacts.RECONSTRUCTION) as found:
        assert np.isfinite(found["prediction"]).all()
    activations.main([*OWN, "own", "--patterns", "2"])
    for command, words in ((reconstruct.main, ["own"]), (activations.main, ["own"])):
        with pytest.raises(SystemExit) as refused:
            command(words)
        assert refused.value.code == 2


@pytest.mark.usefixtures("_outside")
def test_a_part_that_cannot_be_imported_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mylab.py").write_text("import nowhere_to_be_found\n\n\nclass GatedBlock: ...\n")
    with pytest.raises(SystemExit):
        line.run(train, [*OWN, *TINY, "model/block=gated", "data=grid_lines_tiny"])
    assert "No module named 'nowhere_to_be_found'" in capsys.readouterr().err


@pytest.mark.usefixtures("_outside")
def test_a_schedule_of_torch_is_stepped_per_batch() -> None:
    line.run(train, [*OWN, *TINY, "scheduler=one_cycle", "data=grid_lines_tiny"])
    rates = artifacts.read_json(Path("own") / artifacts.HISTORY)["learning_rate"]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    steps = -(-81 // 16)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, epochs=1, steps_per_epoch=steps)
    optimizer.step()
    expected = [cycle.get_last_lr()[0]]
    for _ in range(steps - 1):
        optimizer.step()
        cycle.step()
        expected.append(cycle.get_last_lr()[0])
    assert rates == [pytest.approx(max(expected))]


def test_when_to_step_is_said_of_schedules_alone() -> None:
    """A setting of that name is any other part's own."""
    parts = {key: {"_target_": "builtins.dict", "interval": 3} for key in ("loss", "scheduler")}
    made = [build.part(OmegaConf.create(parts), key)() for key in parts]
    assert made == [{"interval": 3}, {}]

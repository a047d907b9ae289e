"""What was trained already, trained further: more epochs of a run, and another run that starts from it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

import quick_runs
from ptychofno.command import line
from ptychofno.runs import artifacts
from ptychofno.train import train

SMALL = ["data=grid_lines_tiny", "logger=none", "model.hidden_channels=2", "model.modes=4"]
SMALL += ["model.fno_blocks=2", "trainer.num_threads=1", "refine=none"]
ONE = Path("outputs/one")

pytestmark = pytest.mark.usefixtures("_in_workplace")


def run(*overrides: str) -> None:
    quick_runs.run(*SMALL, *overrides)


def refusal(capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as refused:
        line.run(train, [*SMALL, *overrides])
    said = capsys.readouterr().err.strip()
    assert refused.value.code == 2 and "\n" not in said
    return said


def record(run_dir: Path) -> dict[str, Any]:
    return dict(artifacts.read_json(run_dir / artifacts.RUN))


def weights(file: Path) -> dict[str, Any]:
    content = torch.load(file, weights_only=True)
    return dict(content.get("state_dict", content))


@pytest.fixture
def one(_in_workplace: None) -> Path:
    """A run in the directory that the tests of this module share."""
    if not ONE.exists():
        run("trainer.max_epochs=1", "trainer.keep_every=1", f"run_dir={ONE}")
    return ONE


def test_a_finished_run_is_given_more_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = [f"run_dir={tmp_path / 'run'}", "scheduler=default"]
    run(*own, "trainer.max_epochs=1")
    capsys.readouterr()
    run(*own, "trainer.max_epochs=2")
    assert capsys.readouterr().out.startswith("goes on to trainer.max_epochs=2 instead of 1; ")
    said = record(tmp_path / "run")
    assert (said["epochs"], said["epochs_before"], said["resumed"]) == (2, [1], 1)
    assert artifacts.read_json(tmp_path / "run" / artifacts.HISTORY)["epoch"] == [1, 2]
    assert "max_epochs: 2" in (tmp_path / "run" / artifacts.CONFIG).read_text()
    run("scheduler=default", "trainer.max_epochs=2", f"run_dir={tmp_path / 'whole'}")
    one, other = (quick_runs.weights(tmp_path / name, "last") for name in ("run", "whole"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert "trainer.max_epochs=2" in refusal(capsys, *own, "trainer.max_epochs=1")
    assert "optimizer.lr" in refusal(capsys, *own, "trainer.max_epochs=3", "optimizer.lr=0.5")


def test_more_epochs_need_the_state_of_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = [f"run_dir={tmp_path / 'run'}"]
    run(*own, "trainer.max_epochs=1", "enable_checkpointing=false")
    said = refusal(capsys, *own, "trainer.max_epochs=2")
    assert "is finished after 1 epochs and kept no checkpoints/resume.ckpt" in said
    assert record(tmp_path / "run")["state"] in artifacts.RESULT_STATES


def test_a_run_starts_from_another_ones_weights(one: Path, tmp_path: Path) -> None:
    held_still = ["optimizer=sgd", "optimizer.lr=1e-30", "trainer.max_epochs=1", "data.nphotons=1e6"]
    for number, place in enumerate((one, one / artifacts.MODEL, one / artifacts.epoch_weights(1))):
        run(f"init_from={place}", *held_still, f"run_dir={tmp_path / str(number)}")
        file = one / artifacts.MODEL if place == one else place
        expected, found = weights(file), weights(tmp_path / str(number) / artifacts.MODEL)
        for name, value in expected.items():
            if not name.startswith(("inputs.", "output.")):  # what is of the data is of its own data
                assert torch.equal(value, found[name]), name
        said = record(tmp_path / str(number))["init_from"]
        assert said == {"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def test_what_a_run_starts_from_is_of_its_identity(one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, "trainer.max_epochs=1", f"run_dir={one}", f"init_from={one}")
    assert "holds a run with init_from=null" in said


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (["init_from=nowhere"], "init_from=nowhere: nowhere: not a file of weights"),
        (["model.hidden_channels=8"], "not a usable model: weights of another shape lift"),
        (["model.fno_blocks=1"], "not a usable model: weights unexpected encoder.1."),
    ],
)
def test_what_does_not_fit_is_one_line(
    own: list[str], said: str, one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = refusal(capsys, f"init_from={one}", f"run_dir={tmp_path / 'run'}", *own)
    assert found.startswith("init_from=") and said in found

"""Files for other programs, against the network that they were made of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import quick_runs
from ptychofno.export import main

RUN = "outputs/exported"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a small run with rounds in its output has been trained."""
    place = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        small = ["trainer.max_epochs=1", "model.hidden_channels=2", "model.modes=4", "model.fno_blocks=1"]
        quick_runs.run("data=grid_lines_tiny", "logger=none", "refine=none", f"run_dir={RUN}", *small)
    return place


@pytest.fixture(autouse=True)
def _there(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)


@pytest.mark.parametrize("form", ["torch", "onnx"])
def test_the_file_does_what_the_network_does(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("onnxscript", "onnxruntime") if form == "onnx" else ():
        pytest.importorskip(package, reason=f"{package} is not installed: pip install ptychofno[onnx]")
    main([RUN, "--format", form])
    assert "on 7 patterns" in capsys.readouterr().out
    if form == "torch":
        network = torch.export.load(f"{RUN}/model.pt2").module()
        for patterns in (1, 5):
            assert network(torch.rand(patterns, 1, 32, 32)).shape == (patterns, 32, 32, 1, 2)


def test_what_is_no_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["nowhere"])
    assert stopped.value.code == 2 and "nowhere" in capsys.readouterr().err

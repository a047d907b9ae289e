"""What a sweep shows at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptychofno.command import line
from ptychofno.train import train

QUICK = [
    "data=grid_lines_tiny",
    "trainer.max_epochs=1",
    "model.hidden_channels=2",
    "model.fno_blocks=1",
    "model.modes=4",
    "logger=none",
    "refine=none",
]


def test_a_sweep_ends_with_the_ranking_of_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line.run(train, ["-m", *QUICK, "+arm=control,agc", "seed=1"])
    said = capsys.readouterr().out
    lines, _, ranking = said.partition("judgement")
    assert "[1/2] " in lines and "[2/2] " in lines
    assert {"control", "agc"} <= set(ranking.split())
    line.run(train, ["-m", *QUICK, "+arm=control", "seed=1"])
    assert "judgement" not in capsys.readouterr().out, "one run has nothing to be compared with"

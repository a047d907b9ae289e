"""What a sweep shows of its progress, and at its end."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ptychofno.command import line
from ptychofno.display.sweep import Progress, seconds_left
from ptychofno.train import train
from quick_runs import QUICK


def test_a_sweep_counts_its_runs_and_ends_with_the_ranking_of_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line.run(train, ["-m", *QUICK, "+arm=control,agc", "seed=1"])
    lines, _, ranking = capsys.readouterr().out.partition("judgement")
    assert re.search(r"^\[1/2\] control-seed1\S* \w+ in .*, about .* left$", lines, re.MULTILINE), lines
    assert re.search(r"^\[2/2\] agc-seed1\S* \w+ in (?!.* left$).*", lines, re.MULTILINE), lines
    assert {"control", "agc"} <= set(ranking.split())
    line.run(train, ["-m", *QUICK, "+arm=control", "seed=1"])
    assert "judgement" not in capsys.readouterr().out, "one run has nothing to be compared with"


@pytest.mark.parametrize(
    ("ended", "jobs", "at_once", "elapsed", "left"),
    [
        ([10], 4, 1, 10, 30),
        ([10, 20], 4, 1, 30, 30),
        ([10], 4, 2, 10, 10),
        ([10, 10, 10], 5, 2, 20, 10),
        ([10, 10], 3, 8, 12, 0),
        ([10, 10], 2, 1, 20, 0),
        ([10], 4, None, 10, 0),
    ],
)
def test_time_left(ended: list[float], jobs: int, at_once: int | None, elapsed: float, left: float) -> None:
    assert seconds_left(ended, jobs, at_once, elapsed) == left


def test_jobs_that_end_at_once_are_all_counted(tmp_path: Path) -> None:
    tally = tmp_path / "ended"
    tally.touch()
    job = Progress(tally, 30, 2, begun_s=time.time(), job_begun_s=time.time() - 5)
    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda _: job.ended(), range(30)))
    assert {place for place, _ in told} == {f"[{number}/30] " for number in range(1, 31)}
    assert all(left.endswith(" left") for place, left in told if place != "[30/30] ")
    assert replace(job, tally=tmp_path / "of/another/machine").ended() == ("", "")

"""``python -m ptychofno.report``: what it prints and leaves behind."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from base64 import b64decode
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from run_directories import RunWriter, settings

from ptychofno.report import files
from ptychofno.report.__main__ import PAGE, ROWS, main
from ptychofno.report.pictures import images_of, reconstructions
from ptychofno.report.study import load


@pytest.fixture
def study(add_run: RunWriter, study_dir: Path) -> Path:
    for seed in (1, 2, 3):
        add_run("control", seed, state="collapsed" if seed == 1 else "completed", ssim=0.9)
        add_run("stable", seed, loss=0.009 + 0.0001 * seed, config=settings(seed=seed, optimizer__lr=5e-4))
        add_run("broken", seed, state="diverged", losses=[0.17, 0.1], error="gradient is not finite")
    return study_dir


def test_a_page_and_a_table_from_neither_torch_nor_hydra(study: Path) -> None:
    check = (
        "import sys; from ptychofno.report.__main__ import main; main(sys.argv[1:]);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'lightning', 'hydra', 'omegaconf', 'pickle5')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", check, str(study)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    shown = done.stdout
    assert "Best arm so far: stable." in shown
    assert re.search(r"1 +stable +0/3 \(0–56 %\) +63 % +0\.0092 \(0\.00915–0\.00925\)", shown)
    assert f"{study / PAGE}" in shown.replace("\n", "")
    assert {path.name for path in study.iterdir() if path.is_file()} == {PAGE, ROWS}
    page_needs_nothing_else((study / PAGE).read_text())
    first = (study / PAGE).read_bytes()
    main([str(study)])
    assert (study / PAGE).read_bytes() == first, "the same runs give the same page"


def test_a_narrow_terminal_gets_fewer_columns(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    main([str(study), "--output", str(study.parent / "there")])
    assert (study.parent / "there" / PAGE).exists() and not (study / PAGE).exists()
    table = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).split("Best arm")[0]
    assert "judgement" in table and "FRC50" not in table
    assert max(map(len, table.splitlines())) <= 100


def test_csv_holds_every_run(study: Path, add_run: RunWriter) -> None:
    add_run("stable", 3, directory="stable-seed3-again", config=settings(optimizer__lr=5e-4))
    main([str(study)])
    with (study / ROWS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert Counter(row["state"] for row in rows) == {"completed": 6, "diverged": 3, "collapsed": 1}
    assert [row["counted"] for row in rows].count("False") == 1
    broken = next(row for row in rows if row["arm"] == "broken")
    assert (broken["epochs"], broken["error"]) == ("2", "gradient is not finite")
    assert float(broken["grad_norm_max"]) == 8.0


def test_warnings_stand_on_top_of_every_output(
    study: Path, add_run: RunWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run("foreign", 1, dataset_key="aaaa")
    main([str(study)])
    page = (study / PAGE).read_text()
    assert page.index("Different datasets") < page.index("<h2>")
    assert capsys.readouterr().out.startswith("! Different datasets")


class Outside(HTMLParser):
    """Collects what a page would fetch, and the tags it leaves open."""

    void = {"meta", "img", "br", "link"}

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for key, value in attributes:
            if key in ("src", "href", "srcset", "action", "data"):
                self.fetched.append(value or "")
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_needs_nothing_else(page: str) -> None:
    parser = Outside()
    parser.feed(page)
    assert not parser.open
    assert parser.fetched and all(
        source.startswith("data:image/svg+xml;base64,") for source in parser.fetched
    )
    assert "http:" not in page and "https:" not in page and "url(" not in page
    assert "default-src 'none'" in page
    images = [b64decode(source.partition(",")[2]).decode() for source in parser.fetched]
    assert not re.search(r"\b(nan|inf)\b", " ".join(images))


def titles(figure: Figure) -> list[list[str]]:
    return [axes.get_title(loc="left").splitlines() for axes in figure.axes if axes.get_title(loc="left")]


def test_pictures_are_on_the_truth_s_scale(study: Path) -> None:
    arms = load([study]).arms
    (figure,) = reconstructions(arms)
    (truth,), *others = titles(figure)
    assert truth == "truth" and [arm for arm, _ in others] == ["stable", "control", "broken"]
    about = [of_run.partition(",")[0] for _, of_run in others]
    assert about == ["seed 2", "seed 2", "diverged"], "of median loss, or what there is"
    # Written as twice the truth of their own seed: alignment removes the factor.
    images = images_of(arms[0].typical()[0])
    assert images is not None
    for kind in ("amplitude", "phase"):
        np.testing.assert_allclose(images[kind], images[f"target_{kind}"], atol=1e-5)
    scales = {axes.images[0].get_clim() for axes in figure.axes if axes.images}
    assert len(scales) == 2, "one of all amplitudes and one of all phases"


def test_measured_data_have_no_truth(add_run: RunWriter, study_dir: Path) -> None:
    path = add_run("control", 1, ssim=None)
    with np.load(path / "reconstruction.npz") as arrays:
        kept = {key: arrays[key] for key in ("prediction", "region")}
    np.savez(path / "reconstruction.npz", **kept)
    (figure,) = reconstructions(load([study_dir]).arms)
    assert titles(figure) == [["control", "seed 1, SSIM – / –"]]


def test_a_study_that_has_only_begun(add_run: RunWriter, study_dir: Path) -> None:
    path = add_run("control", 1, state="running", losses=[], steps=0, picture=False)
    for name in ("metrics.json", "history.json", "stats.json"):
        (path / name).unlink()
    main([str(study_dir)])
    assert "No ranking" in (study_dir / PAGE).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "missing: no such directory"),
        (["."], "no run in it or below it"),
        ([".", "."], "say with --output DIR"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and error.count("\n") == 1


def test_forty_runs_are_each_read_once(
    add_run: RunWriter, study_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is read twice, and pictures only of one run per arm."""
    for seed in range(10):
        for arm in ("control", "a", "b", "c"):
            add_run(arm, seed, picture=seed < 2, size=16)
    opened: Counter[str] = Counter()
    content = files.content

    def counting(path: Path, limit: int) -> bytes | None:
        opened[path.name] += 1
        return content(path, limit)

    monkeypatch.setattr(files, "content", counting)
    main([str(study_dir)])
    pictures = opened.pop("reconstruction.npz")
    assert set(opened.values()) == {40} and len(opened) == 6
    assert 4 <= pictures < 40
    assert "40 runs" in (study_dir / PAGE).read_text()

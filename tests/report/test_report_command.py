"""``python -m ptychofno.report``: what it prints and leaves behind."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from base64 import b64decode
from collections import Counter
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from matplotlib.image import imread
from run_directories import RunWriter, settings

from ptychofno.report import files
from ptychofno.report.__main__ import PAGE, ROWS, main


@pytest.fixture
def study(add_run: RunWriter, study_dir: Path) -> Path:
    for seed in (1, 2, 3):
        add_run("control", seed, state="collapsed" if seed == 1 else "completed", ssim=0.9)
        add_run("stable", seed, loss=0.009 + 0.0001 * seed, config=settings(seed=seed, optimizer__lr=5e-4))
        add_run("broken", seed, state="diverged", losses=[0.17, 0.1], error="gradient is not finite")
    return study_dir


@pytest.mark.draws
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
    assert parser.fetched and all(source.startswith("data:image/") for source in parser.fetched)
    assert "http:" not in page and "https:" not in page and "url(" not in page
    assert "default-src 'none'" in page
    images = [
        b64decode(source.partition(",")[2]).decode() for source in parser.fetched if "svg" in source[:20]
    ]
    assert not re.search(r"\b(nan|inf)\b", " ".join(images))


def test_of_every_arm_the_run_of_median_loss_shows_its_reconstruction(study: Path) -> None:
    (study / "broken-seed1" / "reconstruction.png").unlink()
    main([str(study)])
    text = (study / PAGE).read_text()
    names = re.findall("<figcaption>(.*?)</figcaption>", text)
    assert names == ["stable, seed 2", "control, seed 2", "broken, seed 2, diverged"]
    for image in re.findall('data:image/jpeg;base64,([^"]*)', text):
        assert imread(BytesIO(b64decode(image)), format="jpeg").shape == (24, 48, 3)


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


@pytest.mark.slow
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
    pictures = opened.pop("reconstruction.png")
    assert set(opened.values()) == {40} and len(opened) == 6
    assert 4 <= pictures < 40
    assert "40 runs" in (study_dir / PAGE).read_text()

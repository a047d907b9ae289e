"""The command as users type it: what is in a file, what it is taken for, and the lines to go on with."""

from __future__ import annotations

import io
import re
import runpy
import shlex
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from rich.console import Console

from ptychofno import inspect
from ptychofno.config.composition import compose
from ptychofno.config.records import settings
from ptychofno.data.preparation import prepare
from ptychofno.data.readers import open_scan
from ptychofno.display.terminal import reading_bar


def scan(count: int = 9, N: int = 16) -> dict[str, np.ndarray]:
    y, x = np.mgrid[:N, :N] - N // 2
    light = 1e4 * np.exp(-(x**2 + y**2) / 20)
    counts = np.random.default_rng(0).poisson(light, (count, N, N)).astype(np.uint32)
    positions = 4.0 * np.stack(np.divmod(np.arange(count), 3), axis=1)
    probe = np.exp(-(x**2 + y**2) / 30).astype(np.complex64)
    return {"intensity": counts, "positions": positions, "probe": probe}


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    inspect.main(list(argv))
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.draws
def test_a_file_is_listed_drawn_and_taken_on(capsys: pytest.CaptureFixture[str]) -> None:
    arrays = scan()
    arrays["intensity"][:, 5] = 2**32 - 1
    with h5py.File("my scan.h5", "w") as file:
        for key, value in arrays.items():
            file[f"entry/{key}"] = value
        file["entry/positions"].attrs["units"] = "px"
    text = said(capsys, "my scan.h5", "data.held_out_every=4")
    assert "entry/intensity  9 x 16 x 16  uint32" in text and "144 at the type's maximum" in text
    assert "units px" in text and "taken for: HDF5" in text and "energy: not found" in text
    assert "16 of 256 detector pixels are 4294967295 in every pattern: masked" in text
    assert Path("outputs/inspect/my scan.h5.png").stat().st_size > 10_000
    (line,) = [line for line in text.splitlines() if "ptychofno.train" in line]
    overrides = shlex.split(line)[3:]
    assert compose(overrides).data.path == "my scan.h5"


def test_what_is_missing_is_said_and_what_was_typed_counts(capsys: pytest.CaptureFixture[str]) -> None:
    arrays = scan()
    np.save("patterns.npy", arrays["intensity"])
    np.savetxt("positions.csv", arrays["positions"] * 1e-6, delimiter=",", header="row,col", comments="")
    assert "not ready: data.path=patterns.npy: no positions" in said(capsys, "patterns.npy")
    said_units = ["data.layout.positions_unit=m", "data.geometry.energy_ev=8000", "data.held_out_every=4"]
    files = ["patterns.npy", "positions.csv"]
    assert "data.geometry.distance_m, data.geometry.detector_pixel_m" in said(capsys, *files, *said_units)
    geometry = ["data.geometry.distance_m=1", "data.geometry.detector_pixel_m=1e-5", "--picture", "p.png"]
    text = said(capsys, *files, *said_units, *geometry)
    assert "an object pixel is 969 nm" in text and "data.also=[positions.csv]" in text
    assert Path("p.png").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["absent.h5"], "data.path=absent.h5: no such file"),
        (["data.N=4"], "expected a file"),
        (["x.npy", "data.layuot=1"], "data.layuot"),
    ],
)
def test_refusals_are_one_line(capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    np.save("x.npy", scan()["intensity"])
    with pytest.raises(SystemExit) as exited:
        inspect.main(argv)
    lines = capsys.readouterr().err.splitlines()
    assert exited.value.code == 2 and len(lines) == 1 and message in lines[0]


def test_a_bar_shows_patterns_as_they_are_read_and_goes_on_after_the_last() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with reading_bar(console) as told:
        for done in (3, 10):
            told(done, 10)
            time.sleep(0.15)  # a screen is drawn ten times a second
    shown = screen.getvalue()
    assert shown.index("reading pattern 3 of 10") < shown.rindex("preparing the data")
    assert "pattern 10 of 10" not in shown


def test_the_example_scans_are_read_as_their_page_says() -> None:
    docs = Path(__file__).parents[1] / "docs"
    runpy.run_path(str(docs / "example_scans.py"))["main"](Path("."))
    page = (docs / "own_scan.md").read_text(encoding="utf-8").partition("## From the raw file")[2]
    lines = re.sub(r"\\\n", " ", page.partition("\n## ")[0]).splitlines()
    commands = [shlex.split(line) for line in lines if "ptychofno.reconstruct" in line]
    assert len(commands) == 3
    for words in commands:
        typed = [word for word in words if word.startswith("data.")]
        data = settings(compose(["data=measured", *typed])).data
        with open_scan(data.path, data.also, data.layout) as raw:
            prepared = prepare(raw, data)
        assert prepared.window.N == 64 and len(prepared.positions_px) == 225
        # Positions are whole object pixels, also those in metres or micrometres.
        np.testing.assert_allclose(prepared.positions_px, prepared.positions_px.round(), atol=1e-3)

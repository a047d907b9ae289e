"""The page in a real browser, from disk."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from run_directories import RunWriter

from ptychofno.report.__main__ import PAGE, main

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed: no browser to open it in"
)


def chromium(page: Path, profile: Path, *flags: str) -> str:
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        f"--user-data-dir={profile}",
        "--window-size=1280,4000",
        *flags,
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, f"the page complained: {done.stderr}"
    return done.stdout


@pytest.fixture
def page(add_run: RunWriter, study_dir: Path) -> Path:
    for seed in (1, 2):
        add_run("control", seed)
        add_run(
            "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>",
            seed,
            directory=f"evil-seed{seed}",
            error="</script><script>document.title='owned'</script>",
        )
    main([str(study_dir)])
    return study_dir / PAGE


@pytest.mark.draws
def test_no_script_runs_and_all_figures_are_shown(page: Path, tmp_path: Path) -> None:
    document = chromium(page, tmp_path / "profile", "--dump-dom")
    assert "<title>stage_a</title>" in document
    assert "<script" not in document and document.count("<img class=") > 5


@pytest.mark.slow
def test_it_shows_something_in_light_and_dark(page: Path, tmp_path: Path) -> None:
    paper = {}
    for name, flags in {"light": [], "dark": ["--blink-settings=preferredColorScheme=0"]}.items():
        picture = tmp_path / f"{name}.png"
        chromium(page, tmp_path / "profile", f"--screenshot={picture}", *flags)
        pixels = imread(picture)[..., :3]
        paper[name] = pixels[2, 2].mean()
        assert np.abs(pixels - pixels[2, 2]).max(axis=-1).mean() > 0.01, "an empty page"
        assert np.abs(pixels[:, -8:] - pixels[2, 2]).max() < 0.02, "nothing runs out of the page"
    assert paper["light"] > 0.9 and paper["dark"] < 0.2

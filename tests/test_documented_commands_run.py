"""Every command of README and docs does what it says: run on tiny data, and looked at what it leaves behind.

What is typed stays, but for sizes: data, epochs, channels, rounds, seeds. The site runs the tutorials.
"""

from __future__ import annotations

import bz2
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ptychofno import reconstruct
from ptychofno.command import line
from ptychofno.runs import artifacts
from ptychofno.train import train
from test_documented_commands import ROOT, commands_of

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
DEFAULT, CONTROL = "outputs/default/default-seed0", "outputs/control/control-seed1"
TINY = ["trainer.max_epochs=1", "model.hidden_channels=2", "logger=none"]
SMALLER = {
    "RUN": [DEFAULT],
    "RUN_A": [DEFAULT],
    "RUN_B": [CONTROL],
    "outputs/default/…": [DEFAULT],
    "FILE": ["scan.h5"],
    "DIRECTORY": ["outputs/stage_a"],
    "outputs/my_study": ["outputs/stage_a"],
    "outputs/tune": ["outputs/stage_a"],
    "data=…": ["data=grid_lines_tiny"],
    "epoch=0,10,best": ["epoch=0,1,best"],
    "data=grid_lines": ["data=grid_lines_tiny"],
    "data=natural_images_small": ["data=natural_images_small", "data.N=32", "data.size=96"],
    "data=discs": ["data=discs", "+data.N=32", "data.size=96"],
    "data.N=256": ["data.N=16"],
    "seed=1,2,3": ["seed=1"],
    "seed=1,2,3,4,5": ["seed=1"],
    "+study=stage_a": ["+study=stage_a", "+arm=control"],
    "trainer.devices=4": ["trainer.devices=2"],
    "hydra/launcher=joblib": ["hydra/launcher=joblib", "seed=2,3"],
    "hydra/launcher=submitit_slurm": ["hydra/launcher=submitit_local", "seed=4"],
    "hydra.launcher.cpus_per_task=8": ["hydra.launcher.cpus_per_task=1"],
    "hydra.launcher.gpus_per_node=1": [],
}
NEEDS = {"hydra/launcher=joblib": "joblib", "hydra/launcher=submitit_slurm": "submitit"}
NEEDS |= {"hydra/sweeper=optuna": "optuna"}
COMMANDS = list(
    dict.fromkeys(
        tuple(words)
        for page in PAGES
        for words in commands_of(page.read_text(encoding="utf-8"))
        if words[:1] == ["-m"] and words[1].startswith("ptychofno.")
    )
)
QUICK = ("--help", "--cfg", "ptychofno.diff", "optimizer.lrr=1")


def shrunk(words: tuple[str, ...]) -> list[str]:
    """What follows the command's name, at a size that takes seconds."""
    _, command, *typed = words
    found = [smaller for word in typed for smaller in SMALLER.get(word, [word])]
    found = [re.sub(r"refine\.rounds=\d+", "refine.rounds=1", word) for word in found]
    if command == "ptychofno.train" and not {"--help", "--cfg", "optimizer.lrr=1"} & set(typed):
        if not any(word.startswith("data=") for word in found):
            found.append("data=grid_lines_tiny")
        found += [word for word in TINY if word not in found and "+study=tune" not in typed]
    if "+study=tune" in typed:
        found += ["trainer.max_epochs=1", "refine=none", "logger=none", "hydra.sweeper.n_trials=1"]
    return found


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the runs, files and parts of which the pages speak."""
    place = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(ROOT / "tests/data")
        write_scans(place)
        write_parts(place)
        (place / "docs").mkdir()
        shutil.copytree(ROOT / "docs/tuning", place / "docs/tuning")
        whole = ["data=grid_lines_tiny", "trainer.keep_every=1", *TINY]
        line.run(train, [*whole, f"run_dir={DEFAULT}"])
        line.run(train, [*whole, "+arm=control", f"run_dir={CONTROL}"])
        reconstruct.main(["flat", "data=grid_lines_tiny", "refine.rounds=1"])
        for seed in (1, 2):
            shutil.copytree(CONTROL, f"outputs/stage_a/control-seed{seed}")
    return place


def write_scans(place: Path) -> None:
    scan_files = import_module("scan_files")
    scan = scan_files.simulated()
    scan_files.cxi(place / "scan.cxi", scan)
    scan_files.ptychodus(place / "product.h5", place / "patterns.h5", scan)
    arrays = {"diffraction": scan["intensity"], "probe": scan["probe"], "positions": scan["positions"]}
    scan_files.write_hdf5(place / "scan.h5", arrays)
    scan_files.write_npz(place / "scan.npz", arrays)
    corner = np.fft.ifftshift(scan["intensity"], axes=(1, 2))[None].astype(np.float32)
    tike = {"data": corner, "scan": scan["positions"][None].astype(np.float32)}
    scan_files.write_npz(place / "star.npz", tike, probe=scan["probe"][None, None, None, None])
    (place / "siemens-star-small.npz.bz2").write_bytes(bz2.compress((place / "star.npz").read_bytes()))


def write_parts(place: Path) -> None:
    """The modules and YAML files of README and docs/extending.md, word for word."""
    code = []
    for page in (ROOT / "README.md", ROOT / "docs/extending.md"):
        text = page.read_text(encoding="utf-8")
        code += re.findall(r"(?ms)^```python\n(.*?)^```", text)
        for file, content in re.findall(r"(?ms)`(mylab/\S+\.yaml)`:\n\n```yaml\n(.*?)^```", text):
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_text(content)
    (place / "mylab.py").write_text("\n".join(code))


def mark(words: tuple[str, ...]) -> object:
    text = " ".join(words[1:])
    needed = next((package for word, package in NEEDS.items() if word in words), None)
    marks = [] if any(word in words for word in QUICK) else [pytest.mark.slow]
    if needed is not None:
        marks.append(pytest.mark.skipif(find_spec(needed) is None, reason=f"needs the extra {needed}"))
    return pytest.param(words, id=text.removeprefix("ptychofno."), marks=marks)


@pytest.mark.parametrize("words", [mark(words) for words in COMMANDS])
def test_a_documented_command_does_what_it_says(
    words: tuple[str, ...],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path if any(word in words for word in QUICK) else request.getfixturevalue("lab")
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    before = written(place)
    code = run(words, tmp_path)
    told = capfd.readouterr()
    assert code == (2 if "optimizer.lrr=1" in words else 0), told.err
    check(words, told.out + told.err, {path.name for path, _ in written(place) - before})


def written(place: Path) -> set[tuple[Path, int]]:
    return {(path, path.stat().st_mtime_ns) for path in place.rglob("*")}


def run(words: tuple[str, ...], own: Path) -> int:
    """Its exit code."""
    argv = shrunk(words)
    alone = words[1] == "ptychofno.train" and "-m" not in words[2:] and not {"--help", "--cfg"} & set(words)
    if alone:
        argv.append(f"run_dir=ran/{own.name}")
    if {"trainer=ddp", "hydra/sweeper=optuna"} & set(words):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, *words[:2], *argv], env=environment, check=False).returncode
    module = import_module(f"{words[1]}.__main__" if words[1] == "ptychofno.report" else words[1])
    try:
        line.run(train, argv) if words[1] == "ptychofno.train" else module.main(argv)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def check(words: tuple[str, ...], told: str, left: set[str]) -> None:
    """That a command told and left what commands of its kind do."""
    command, typed = words[1].removeprefix("ptychofno."), words[2:]
    if "optimizer.lrr=1" in typed:
        assert told.strip() in (ROOT / "docs/start.md").read_text(encoding="utf-8")
    elif "--help" in typed:
        assert "optimizer" in told and "trainer.max_epochs" in told
    elif "--cfg" in typed:
        assert "clip_factor" in told or "_target_" in told
    elif "-m" in typed and "hydra/sweeper=optuna" not in typed:
        ended = re.findall(r"^\[(\d+)/(\d+)\] ", told, re.MULTILINE)
        assert "to run" in told and artifacts.METRICS in left
        assert not ended or ended[-1][0] == ended[-1][1]
    elif command == "train":
        assert {artifacts.METRICS, artifacts.RUN, artifacts.RECONSTRUCTION_FIGURE} <= left
    elif command == "reconstruct":
        assert {artifacts.METRICS, artifacts.RECONSTRUCTION_FIGURE, artifacts.RECONSTRUCTION} <= left
    elif command == "report":
        assert {"report.html", "report.csv"} <= left
    elif command == "activations":
        assert {"activations.json", "activations.png"} <= left or {"compare.json", "compare.png"} <= left
    elif command == "inspect":
        assert "python -m ptychofno.reconstruct flat" in told and any(name.endswith(".png") for name in left)
    else:
        assert command == "diff" and "optimizer.lr" in told


def test_two_lines_of_the_readme_complete_in_a_clean_bash(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"(?m)^    (_ptychofno\(\).*|alias ptychofno=.*)$", readme)
    assert len(lines) == 2
    typed = "ptychofno optimizer="
    script = [*lines, f"COMP_LINE='{typed}'; COMP_POINT={len(typed)}; _ptychofno; echo ${{COMPREPLY[*]}}"]
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-ec", "\n".join(script)],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [f"optimizer={one}" for one in ("adam", "adamw", "muon", "sgd")]


def test_extras_that_pages_name_are_there() -> None:
    import tomllib

    there = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for page in PAGES for name in re.findall(r"ptychofno\[(\w+)\]", page.read_text())}
    assert named and named <= set(there)

"""The wheel carries conf/, and what is installed from it runs in any directory."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_installed_from_the_wheel_runs_in_any_directory(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(".*", "outputs", "build", "dist", "*.egg-info", "experiments"),
    )
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, cwd=source)
    (wheel,) = tmp_path.glob("ptychofno-*.whl")

    elsewhere = tmp_path / "elsewhere"
    run(sys.executable, "-m", "venv", "--without-pip", elsewhere, cwd=tmp_path)
    python = elsewhere / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--target",
        site,
        wheel,
        cwd=tmp_path,
    )
    # The libraries of this environment, without its own (editable) ptychofno: a path line runs no .pth.
    (Path(site) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")

    found = run(python, "-c", "import ptychofno; print(ptychofno.__file__)", cwd=tmp_path).strip()
    assert found.startswith(str(elsewhere))
    work = tmp_path / "work"
    work.mkdir()
    shown = run(python, "-m", "ptychofno.train", "+arm=stable_warmup", "--cfg", "job", cwd=work)
    assert "StableHybridUNOGenerator" in shown
    run(python, "-c", "import ptychofno.build, ptychofno.evaluation, ptychofno.train", cwd=work)

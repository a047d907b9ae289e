"""Data flows one way; what may import what is written here and nowhere else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "ptychofno"

# Package or module of ours → what else of ours it may import.
ALLOWED = {
    "__main__": set(),
    "display": {"config", "data", "runs", "training"},
    "config": {"display", "runs"},
    "command": {"config"},
    "sweeps": {"command", "config", "display", "report", "runs"},
    "physics": set(),
    "models": set(),
    "metrics": set(),
    "data": {"physics", "runs"},
    "training": {"physics", "runs"},
    "diff": {"config", "display", "runs"},
    "inspect": {"config", "data", "display", "runs"},
    "inspection": {"display", "runs"},
    "evaluation": {"data", "display", "physics", "metrics", "runs"},
    "report": {"config", "display", "runs"},
    "runs": {"build", "config", "data", "models", "physics", "training"},
    "build": {"runs", "config", "data", "models", "physics", "training"},
    "activations": {
        "build",
        "config",
        "data",
        "display",
        "inspection",
        "models",
        "physics",
        "runs",
        "train",
        "training",
    },
    "export": {"build", "config", "runs"},
    "reconstruct": {"build", "config", "data", "display", "evaluation", "runs"},
    "train": {
        "build",
        "command",
        "config",
        "data",
        "display",
        "evaluation",
        "runs",
        "training",
    },
}
SEES_OMEGACONF = {"config", "command", "build", "runs", "sweeps", "train"}


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        top = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if top != "__init__":
            found.append((top, path))
    return found


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_imports_follow_the_flow() -> None:
    astray = [
        f"{path.relative_to(SOURCE)} imports {name}"
        for top, path in modules()
        for name in sorted(imports(path))
        if (
            (name.startswith("ptychofno.") and name.split(".")[1] not in {top, *ALLOWED[top]})
            or (name.split(".")[0] in ("omegaconf", "hydra") and top not in SEES_OMEGACONF)
            or name.startswith("experiments")
        )
    ]
    assert not astray


PROGRAM = """
import sys
import ptychofno.config.schema, ptychofno.runs.artifacts
light = {"hydra", "omegaconf"} & set(sys.modules)
from ptychofno import activations, diff, train
from ptychofno.command import line
refused = []
for command, words in (
    (line.run, (print, ["--cfg", "job"])),
    (line.run, (print, ["--help"])),
    (diff.main, (["control", "agc"],)),
    (line.run, (print, ["optimizer.lr=-1"])),
    (line.run, (print, ["-m", "seed=1,2", "clip=x"])),
    (activations.main, (["contrl"],)),
):
    try:
        command(*words)
    except SystemExit as stop:
        refused.append(stop.code)
heavy = {"torch", "lightning", "matplotlib", "numpy", "skimage"} & set(sys.modules)
import ptychofno.data.preparation, ptychofno.data.readers, ptychofno.inspect
heavy |= {"torch", "lightning", "matplotlib"} & set(sys.modules)
sys.exit(f"{refused} {heavy} {light}" if heavy or light or refused != [2, 2, 2] else 0)
"""


def test_help_a_difference_and_a_refusal_load_no_torch_and_the_schema_no_hydra() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_reconstruction_loads_neither_lightning_nor_a_compiler(tmp_path: Path) -> None:
    """Each takes as long as torch itself."""
    program = (
        "import sys; from ptychofno import reconstruct;"
        "reconstruct.main(['flat', 'data=grid_lines_tiny', 'refine.rounds=1', '--output', 'out']);"
        "sys.exit(' '.join({'lightning', 'torch._dynamo'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr

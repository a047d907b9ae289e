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
    "sweeps": {"command", "config", "display", "runs"},
    "physics": set(),
    "models": set(),
    "metrics": set(),
    "data": {"physics", "runs"},
    "training": {"physics", "runs"},
    "diff": {"config", "display", "runs"},
    "inspect": {"config", "data", "display", "runs"},
    "inspection": {"display", "runs"},
    "evaluation": {"display", "physics", "metrics", "runs"},
    "report": {"config", "display", "metrics", "runs"},
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
        "training",
    },
    "reconstruct": {"build", "config", "data", "display", "evaluation", "runs"},
    "train": {"build", "command", "config", "data", "display", "evaluation", "runs", "training"},
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


@pytest.mark.parametrize(("top", "path"), modules(), ids=lambda value: getattr(value, "stem", value))
def test_imports_follow_the_flow(top: str, path: Path) -> None:
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("ptychofno.")}
    assert ours - {top} <= ALLOWED[top], f"{path.name} of {top} imports {sorted(ours - {top} - ALLOWED[top])}"


@pytest.mark.parametrize(("top", "path"), modules(), ids=lambda value: getattr(value, "stem", value))
def test_only_config_and_build_see_omegaconf(top: str, path: Path) -> None:
    seen = {name.split(".")[0] for name in imports(path)} & {"omegaconf", "hydra"}
    assert not seen or top in SEES_OMEGACONF


def test_nothing_imports_experiments() -> None:
    assert not any(name.startswith("experiments") for _, path in modules() for name in imports(path))


@pytest.mark.parametrize(
    "module",
    [
        "ptychofno",
        "ptychofno.train",
        "ptychofno.config",
        "ptychofno.runs.artifacts",
        "ptychofno.command.launch",
        "ptychofno.data.readers",
        "ptychofno.data.preparation",
        "ptychofno.diff",
        "ptychofno.inspect",
        "ptychofno.activations",
    ],
)
def test_imported_without_torch(module: str) -> None:
    """What a refused configuration loads."""
    check = (
        f"import sys, {module}; sys.exit(any(m in sys.modules for m in ('torch', 'lightning', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0

"""conf/ travels with the package, and every package is listed."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_yaml_files_are_found_through_the_package() -> None:
    shipped = Path(str(files("ptychofno.conf")))
    assert (shipped / "config.yaml").is_file()
    assert (shipped / "model" / "block" / "ptycho.yaml").is_file()


def dotted(path: Path) -> str:
    return ".".join(path.parts)


def test_every_package_is_listed_for_the_wheel() -> None:
    tomllib = pytest.importorskip("tomllib")
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    source = ROOT / "src"
    code = {dotted(path.parent.relative_to(source)) for path in source.rglob("__init__.py")}
    settings = {f"ptychofno.{dotted(path.parent.relative_to(ROOT))}" for path in ROOT.glob("conf/**/*.yaml")}
    assert set(tool["packages"]) == code | settings | {"hydra_plugins"}
    assert tool["package-dir"]["ptychofno.conf"] == "conf"

"""What differs between configurations: ``python -m ptychofno.diff control stable_warmup``."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ptychofno import artifacts
from ptychofno.config.comparison import differing, flat, of_the_result
from ptychofno.config.errors import ConfigError, did_you_mean, shown
from ptychofno.config.text import aligned, printable

ABSENT = "–"

_USAGE = """\
Each of A, B, … is one of
  an arm            control
  overrides         "+arm=stable optimizer.lr=1e-4"; "default" is the run without any
  a run directory   outputs/stage_a/control-seed1
  a YAML file       an arm's file, or a configuration such as the config.yaml of a run
Without a run directory's own names and what only says where and how to compute."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ptychofno.diff",
        description="Show in which settings configurations differ, one dotted key per line.",
        epilog=_USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("configs", metavar="A B", nargs="+", help="two or more configurations, see below")
    parser.add_argument("--all", action="store_true", help="every setting, also those that agree")
    parser.add_argument("--json", action="store_true", help="as JSON; an absent setting is left out")
    parser.add_argument("--exit-code", action="store_true", help="exit with 1 when they differ")
    args = parser.parse_args(argv)
    if len(args.configs) < 2:
        parser.error("expected two or more configurations")
    try:
        configs = {name: load(name) for name in args.configs}
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    keys = [key for key in differing(configs) if of_the_result(key)]
    listed = sorted({key for config in configs.values() for key in config}) if args.all else keys
    if args.json:
        settings = {key: {n: c[key] for n, c in configs.items() if key in c} for key in listed}
        print(json.dumps({"configs": list(configs), "differ": bool(keys), "settings": settings}, indent=2))
    elif listed:
        _print_table(configs, listed)
    if args.exit_code and keys:
        raise SystemExit(1)


def load(name: str) -> dict[str, Any]:
    """The resolved settings that ``name`` stands for, by dotted keys.

    A run directory is read as data: nothing of it is resolved, composed or built, and its keys may be
    those of another version. Raises ConfigError for a name that stands for nothing.
    """
    path = Path(name)
    if "=" in name and not path.exists():
        return _composed(shlex.split(name))
    if name == "default":
        return _composed([])
    if "/" not in name and not name.endswith((".yaml", ".yml")) and name in _arms():
        return _composed([f"+arm={name}"])
    if path.is_dir():
        return _read(path / artifacts.CONFIG)
    if path.is_file():
        if path.parent.name == "arm":
            return _composed([f"+arm={path.stem}"], config_dir=str(path.resolve().parents[1]))
        return _read(path)
    raise ConfigError(f"{name}: no such arm, run directory or YAML file{did_you_mean(name, _arms())}")


def _composed(overrides: list[str], config_dir: str | None = None) -> dict[str, Any]:
    from ptychofno.config import compose, resolved_yaml

    return flat(yaml.safe_load(resolved_yaml(compose(overrides, config_dir=config_dir))))


def _arms() -> list[str]:
    from importlib.resources import files

    return sorted(Path(str(file)).stem for file in (files("ptychofno.conf") / "arm").iterdir())


class _Tree(yaml.SafeLoader):
    """Plain values without aliases, which can tie loops or blow up without end."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it uses aliases (*name), write their values out")
        return super().compose_node(parent, index)


def _read(path: Path) -> dict[str, Any]:
    if path.name == artifacts.CONFIG and path.is_symlink():
        raise ConfigError(f"{path}: is a link; a run keeps its own {artifacts.CONFIG}")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Tree)
    except FileNotFoundError:
        raise ConfigError(f"{path.parent}: not a run directory, it has no {path.name}") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not readable as settings: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected settings, one 'key: value' per line")
    return flat(values)


def _print_table(configs: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> None:
    """One line per key; in a terminal the columns that differ from the first are coloured."""
    header = ["", *map(printable, configs)]
    rows = aligned(
        [header, *([printable(key), *(_cell(config, key) for config in configs.values())] for key in keys)]
    )
    coloured = sys.stdout.isatty()
    for index, cells in enumerate(rows):
        print("  ".join(_coloured(cells, heading=index == 0) if coloured else cells).rstrip())


def _coloured(cells: list[str], heading: bool) -> list[str]:
    if heading:
        return [f"\033[1m{cell}\033[0m" for cell in cells]
    key, first, *others = cells
    changed = any(cell.strip() != first.strip() for cell in others)
    if not changed:
        return [f"\033[2m{cell}\033[0m" for cell in cells]
    others = [f"\033[32m{cell}\033[0m" if cell.strip() != first.strip() else cell for cell in others]
    return [key, f"\033[31m{first}\033[0m", *others]


def _cell(config: Mapping[str, Any], key: str) -> str:
    return printable(shown(config[key])) if key in config else ABSENT


if __name__ == "__main__":
    main()

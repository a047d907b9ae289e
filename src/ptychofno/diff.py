"""What differs between configurations: ``python -m ptychofno.diff control stable_warmup``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ptychofno.config.errors import exit_codes, shown
from ptychofno.display.text import aligned, printable
from ptychofno.runs.comparison import differing, flat, of_the_result
from ptychofno.runs.naming import Composed, read, subject

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
    with exit_codes():
        configs = {name: load(name) for name in args.configs}
        keys = [key for key in differing(configs) if of_the_result(key)]
        listed = sorted({key for config in configs.values() for key in config}) if args.all else keys
        if args.json:
            settings = {key: {n: c[key] for n, c in configs.items() if key in c} for key in listed}
            print(
                json.dumps({"configs": list(configs), "differ": bool(keys), "settings": settings}, indent=2)
            )
        elif listed:
            _print_table(configs, listed)
        else:
            print("no setting differs")
        if args.exit_code and keys:
            raise SystemExit(1)


def load(name: str) -> dict[str, Any]:
    """The resolved settings that ``name`` stands for, by dotted keys.

    A run directory is read as data: nothing of it is resolved, composed or built, and its keys may be
    those of another version. Raises ConfigError for a name that stands for nothing.
    """
    found = subject(name)
    return _composed(found) if isinstance(found, Composed) else flat(read(found.file))


def _composed(found: Composed) -> dict[str, Any]:
    from ptychofno.config.composition import compose
    from ptychofno.config.records import resolved_yaml

    return flat(yaml.safe_load(resolved_yaml(compose(found.overrides, config_dir=found.config_dir))))


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

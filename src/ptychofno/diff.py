"""What differs between configurations: ``python -m ptychofno.diff control stable_warmup``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ptychofno.config.errors import exit_codes, shown
from ptychofno.display.text import NONE, aligned, printable
from ptychofno.runs.comparison import differing, flat, of_the_result
from ptychofno.runs.naming import Composed, read, subject

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
    args = parser.parse_args(argv)
    if len(args.configs) < 2:
        parser.error("expected two or more configurations")
    with exit_codes():
        configs = {name: load(name) for name in args.configs}
        keys = [key for key in differing(configs) if of_the_result(key)]
        listed = sorted({key for config in configs.values() for key in config}) if args.all else keys
        if args.json:
            settings = {key: {n: c[key] for n, c in configs.items() if key in c} for key in listed}
            found = {"configs": list(configs), "differ": bool(keys), "settings": settings}
            print(json.dumps(found, indent=2))
        elif listed:
            _print_table(configs, listed)
        else:
            print("no setting differs")


def load(name: str) -> dict[str, Any]:
    """The resolved settings that ``name`` stands for, by dotted keys.

    A run directory is read as data: nothing of it is resolved, composed or built, and its keys may be
    those of another version. Raises ConfigError for a name that stands for nothing.
    """
    found = subject(name)
    if not isinstance(found, Composed):
        return flat(read(found.file))

    from ptychofno.config.composition import compose
    from ptychofno.config.records import resolved_yaml

    return flat(yaml.safe_load(resolved_yaml(compose(found.overrides, config_dir=found.config_dir))))


def _print_table(configs: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> None:
    """One line per key; in a terminal the columns that differ from the first are coloured."""
    rows = [["", *configs]]
    for key in keys:
        rows.append([key, *(shown(one[key]) if key in one else NONE for one in configs.values())])
    coloured = sys.stdout.isatty()
    for index, cells in enumerate(aligned([[*map(printable, row)] for row in rows])):
        if coloured and index:
            cells[2:] = [
                f"\033[32m{cell}\033[0m" if cell.strip() != cells[1].strip() else cell for cell in cells[2:]
            ]
        print("  ".join(cells).rstrip())


if __name__ == "__main__":
    main()

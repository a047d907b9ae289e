"""Draw a kept table: a row per group, a dot per line of the table, a bar at their median.

    python experiments/dots.py experiments/guard/runs.csv experiments/guard/figure.png \\
        --by "{arm}" --of "ssim_amplitude=SSIM amplitude"
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

from seeds import draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("figure", type=Path)
    parser.add_argument("--by", metavar="NAME", required=True, help="of a row, from {COLUMN}s of the table")
    parser.add_argument("--of", metavar="COLUMN=LABEL", nargs="+", required=True, help="a panel each")
    parser.add_argument("--where", metavar="COLUMN=VALUE", nargs="+", default=[], help="the lines to take")
    parser.add_argument("--dot", default="run", help="what a line of the table is")
    args = parser.parse_args()
    labels = dict(entry.split("=", 1) for entry in args.of)
    wanted = dict(entry.split("=", 1) for entry in args.where)
    values, failed = defaultdict(list), defaultdict(list)
    with args.table.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            if wanted.items() <= line.items():
                name = args.by.format(**{column: cell or "none" for column, cell in line.items()})
                values[name].append({column: float(line[column] or "nan") for column in labels})
                failed[name].append(line.get("state") in ("collapsed", "diverged"))
    red = "; red: ended flat or diverged" if any(map(any, failed.values())) else ""
    draw(values, failed, labels, args.figure, f"A dot per {args.dot}, a bar at their median{red}")


if __name__ == "__main__":
    main()

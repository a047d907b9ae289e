"""Draw what frontier.py measured: python experiments/frontier/figure.py frontier.csv figure.png"""

from __future__ import annotations

import csv
import sys

from ptychofno.display.drawing import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    RED,
    new_figure,
    save_figure,
    tidy,
    write_title,
)

METHODS = {
    "network": (MUTED, "o", "--"),
    "network + 10": (RED, "o", "-"),
    "flat + 10": (BLUE, "s", "--"),
    "flat + 100": (BLUE, "s", "-"),
    "LSQ-ML 30": (ORANGE, "D", "-"),
}
OBJECTS = {"grid_lines": "lines", "natural_images": "natural images", "random_fields": "random fields"}


def main(table: str, figure_path: str) -> None:
    with open(table, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure = new_figure(11.0, 10.2)
    write_title(
        figure,
        "Who finds the phase?",
        "phase error, rad, over the step of the scan, px; 676 training patterns",
    )
    grid = figure.add_gridspec(3, 3, top=0.87, bottom=0.1, left=0.08, right=0.98, hspace=0.3, wspace=0.22)
    for line, photons in enumerate(("1e9", "1e5", "1e4")):
        for column, (kind, name) in enumerate(OBJECTS.items()):
            axes = figure.add_subplot(grid[line, column])
            for method, (colour, marker, style) in METHODS.items():
                found = sorted(
                    (int(row["step_px"]), float(row["phase_mae_rad"]))
                    for row in rows
                    if (row["object"], row["photons"], row["method"]) == (kind, photons, method)
                )
                if found:
                    axes.plot(
                        *zip(*found, strict=True), color=colour, marker=marker, linestyle=style, label=method
                    )
            axes.set_yscale("log")
            axes.set_xticks([10, 20, 32, 48])
            axes.set_title(f"{name}, {photons} photons", fontsize=11, color=INK)
            tidy(axes, 10)
            if line == 0 and column == 0:
                figure.legend(
                    *axes.get_legend_handles_labels(), loc="lower center", ncols=5, frameon=False, fontsize=11
                )
    save_figure(figure_path, figure)


if __name__ == "__main__":
    main(*sys.argv[1:])

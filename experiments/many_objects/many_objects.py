"""One network for many objects, against one for each class and against none.

    python experiments/many_objects/many_objects.py runs.csv --many RUN --own lines=RUN images=RUN fields=RUN
    python experiments/many_objects/many_objects.py left_out.csv --many RUN --without lines=RUN images=RUN …
    python experiments/many_objects/many_objects.py runs.csv --figure figure.png

Reconstructs unseen objects of each class, at two steps of the scan, from a flat start and from each network,
with 0, 3 and 10 rounds of overlap. Networks without a class were trained on all others. One thread. Rows that
are in the table already are kept.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import torch
import yaml

from ptychofno import build
from ptychofno.config.composition import compose
from ptychofno.config.records import settings
from ptychofno.data import PtychoDataset
from ptychofno.display import drawing
from ptychofno.evaluation import judge
from ptychofno.evaluation.refinements import NoRefinement, OverlapRefinement
from ptychofno.runs import artifacts
from ptychofno.runs.weights import recorded_generator

CLASSES = {
    "lines": ["data=grid_lines_small"],
    "images": ["data=natural_images_small"],
    "fields": ["data=random_fields_small"],
    "leaves": ["data=mixed", "data.classes=[dead_leaves]", "data.nimgs_train=1", "data.nimgs_test=1"],
}
COLUMNS = ("object", "step_px", "start", "rounds", "ssim_amplitude", "ssim_phase", "phase_mae_rad")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--figure", type=Path, help="only draw the table")
    parser.add_argument("--many", type=Path, help="run of the network for many objects")
    parser.add_argument("--own", nargs="*", default=[], metavar="CLASS=RUN", help="runs for one class each")
    parser.add_argument(
        "--without", nargs="*", default=[], metavar="CLASS=RUN", help="runs that leave one out"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    own, without = (dict(pair.split("=", 1) for pair in pairs) for pairs in (args.own, args.without))
    rows = []
    if args.table.exists():
        with args.table.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    if args.figure:
        draw(rows, args.figure)
        return
    done = {(row["object"], row["step_px"], row["start"], row["rounds"]) for row in rows}
    for kind, typed in CLASSES.items():
        starts = {"flat": None, "many": args.many}
        starts |= {
            name: Path(runs[kind]) for name, runs in (("own", own), ("without", without)) if kind in runs
        }
        for step in (10, 20):
            plan = settings(compose([*typed, f"data.test_step_px={step}"]))
            dataset = build.dataset(plan)
            for start, run in starts.items():
                network = None if run is None else trained(run, dataset)
                for rounds in (0, 3, 10):
                    key = (kind, str(step), start, str(rounds))
                    if key in done or (network is None and rounds == 0):
                        continue
                    how = OverlapRefinement(rounds=rounds) if rounds else NoRefinement()
                    found = judge(network, dataset, replace(plan, refine=how), "cpu").metrics
                    values = (*found["ssim"], found["phase_mae_rad"])
                    rows.append(dict(zip(COLUMNS, (*key, *(f"{v:.5f}" for v in values)), strict=True)))
                    print(rows[-1], flush=True)
                    with args.table.open("w", newline="", encoding="utf-8") as file:
                        writer = csv.DictWriter(file, COLUMNS)
                        writer.writeheader()
                        writer.writerows(rows)


def draw(rows: list[dict[str, str]], path: Path) -> None:
    colours = {"flat": drawing.MUTED, "many": drawing.RED, "own": drawing.BLUE}
    labels = {"flat": "flat object", "many": "one network for all", "own": "network of its class"}
    figure = drawing.new_figure(10.0, 4.6)
    title = "Phase error after ten rounds, rad, by the start of the rounds"
    drawing.write_title(figure, "Does one network serve many objects?", title)
    for place, step in enumerate(("10", "20")):
        axes = figure.add_axes((0.08 + 0.48 * place, 0.17, 0.42, 0.55))
        for start, colour in colours.items():
            found = [
                row for row in rows if (row["step_px"], row["start"], row["rounds"]) == (step, start, "10")
            ]
            kinds = [list(CLASSES).index(row["object"]) for row in found]
            errors = [float(row["phase_mae_rad"]) for row in found]
            axes.plot(kinds, errors, "o", color=colour, markersize=8, label=labels[start])
        axes.set_yscale("log")
        axes.set_xticks(range(len(CLASSES)), list(CLASSES))
        axes.set_title(f"a pattern every {step} px", fontsize=11, color=drawing.INK)
        drawing.tidy(axes, 11)
    figure.legend(*axes.get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False, fontsize=11)
    drawing.save_figure(path, figure)


def trained(run: Path, dataset: PtychoDataset) -> torch.nn.Module:
    model = yaml.safe_load((run / artifacts.CONFIG).read_text(encoding="utf-8"))["model"]
    return recorded_generator(model, dataset, run / artifacts.MODEL, for_its_data=False)


if __name__ == "__main__":
    main()

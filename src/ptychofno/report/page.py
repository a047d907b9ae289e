"""The report as one HTML file that needs nothing else: no network, no other file, no script."""

from __future__ import annotations

import math
from base64 import b64encode

from jinja2 import Environment, PackageLoader, StrictUndefined

from ptychofno.display.text import NONE, counted, duration
from ptychofno.report import charts, files, ranking
from ptychofno.report.arms import Arm
from ptychofno.report.runs import GIVEN_BACK, MEASURES
from ptychofno.report.study import Study
from ptychofno.report.tables import as_text, columns, differences, main_columns, of_runs
from ptychofno.runs import artifacts, stats

_PICTURE_PX = 1000


def page(study: Study) -> str:
    """The whole document. Every text that comes from a run is escaped; the policy in its head lets no
    script run, whatever a text holds, and nothing be fetched."""
    loader = PackageLoader("ptychofno.report", "")
    templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    cells = [columns(standing) for standing in study.verdict.standings]
    main = main_columns(cells)
    every = [run for arm in study.arms for run in (*arm.results, *arm.successes)]
    return templates.get_template("page.html").render(
        study=study,
        arms=counted(len(study.trained), "arm"),
        runs=counted(sum(len(arm.runs) for arm in study.trained), "run"),
        spent=duration(sum(float(arm.values("training_seconds").sum()) for arm in study.trained)),
        main_rows=main,
        other_rows=[{key: row[key] for key in row if key not in main[0] or key == "arm"} for row in cells],
        charts=charts,
        measures=[one for one in MEASURES if any(math.isfinite(run.measures[one.key]) for run in every)],
        reconstructions=[found for arm in study.arms if (found := _reconstruction(arm))],
        differences=differences,
        none_sign=NONE,
        run_rows=[{key: as_text(value) for key, value in row.items()} for row in of_runs(study)],
        ranking=ranking,
        stats=stats,
        given_back=GIVEN_BACK,
    )


def _reconstruction(arm: Arm) -> dict[str, str] | None:
    """What the run of median loss drew of its object, or the next one that did."""
    for run in arm.typical():
        try:
            drawn = files.picture(run.path / artifacts.RECONSTRUCTION_FIGURE, _PICTURE_PX)
        except files.Unreadable:
            continue
        if drawn is not None:
            about = "" if run.succeeded else f", {run.state}"
            image = f"data:image/jpeg;base64,{b64encode(drawn).decode('ascii')}"
            return {"name": f"{arm.name}, seed {run.seed}{about}", "image": image}
    return None

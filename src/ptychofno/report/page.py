"""The report as one HTML file that needs nothing else: no network, no other file, no foreign script."""

from __future__ import annotations

import math
from base64 import b64encode
from hashlib import sha256

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ptychofno.display.text import counted, duration
from ptychofno.report import charts
from ptychofno.report.arms import Arm
from ptychofno.report.pictures import galleries
from ptychofno.report.runs import MEASURES
from ptychofno.report.study import Study
from ptychofno.report.tables import DEFINITIONS, columns, readable_differences, run_cells
from ptychofno.report.wording import NONE

_IF_KNOWN = ("SSIM amplitude", "SSIM phase", "held-out error")
_MAIN = ("", "arm", "runs", "crashed (95 %)", "rate at most", "validation loss", *_IF_KNOWN, "judgement")
_DOTS_ABREAST = 4


def page(study: Study) -> str:
    """The whole document. Every text that comes from a run is escaped; the policy in its head lets no
    script run but the report's own, whatever a text holds, and nothing be fetched."""
    loader = PackageLoader("ptychofno.report", "")
    files = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    style, script = (Markup(loader.get_source(files, name)[0]) for name in ("page.css", "page.js"))
    cells = [columns(standing) for standing in study.verdict.standings]
    # Of measured data no similarity is known, of simulated data no held-out error.
    main = [key for key in _MAIN if key not in _IF_KNOWN or any(row[key] != NONE for row in cells)]
    known = [measure for measure in MEASURES if any(_has(arm, measure.key) for arm in study.arms)]
    return files.get_template("page.html").render(
        study=study,
        style=style,
        script=script,
        digest=b64encode(sha256(script.encode()).digest()).decode("ascii"),
        facts=_facts(study),
        main_rows=[{key: row[key] for key in main} for row in cells],
        other_rows=[{key: row[key] for key in row if key not in main or key == "arm"} for row in cells],
        marks=[_mark(study, arm) for arm in study.arms],
        charts=charts,
        measures=[known[first : first + _DOTS_ABREAST] for first in range(0, len(known), _DOTS_ABREAST)],
        galleries=galleries(study.arms),
        changes=[
            (arm, readable_differences(arm, study.control))
            for arm in study.trained
            if study.control and arm is not study.control
        ],
        none_sign=NONE,
        runs=[run_cells(arm, run) for arm in study.arms for run in arm.runs],
        definitions=DEFINITIONS,
    )


def _facts(study: Study) -> str:
    arms = counted(len(study.trained), "arm")
    runs = counted(sum(len(arm.runs) for arm in study.trained), "run")
    spent = sum(float(arm.values("training_seconds").sum()) for arm in study.trained)
    return f"{arms}, {runs}, {duration(spent)} of successful training"


def _has(arm: Arm, measure: str) -> bool:
    return any(math.isfinite(run.measures.get(measure, math.nan)) for run in arm.runs)


def _mark(study: Study, arm: Arm) -> str:
    if arm is study.verdict.candidate:
        return "winner"
    return "refused" if arm.is_reference or arm.name in study.comparison.refused else ""

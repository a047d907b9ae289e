"""What is told of arms and of runs in tables: on the page, in the terminal and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from ptychofno.display.text import NONE, formatted, percent, print_fitting
from ptychofno.report.arms import FLAT_SSIM, Arm
from ptychofno.report.evidence import upper_bound
from ptychofno.report.ranking import Standing
from ptychofno.report.runs import MEASURES, FoundRun
from ptychofno.report.study import Study
from ptychofno.runs.comparison import differing

_MAIN: tuple[str, ...] = ("", "arm", "runs", "crashed (95 %)", "rate at most")
_MAIN += ("validation loss", "SSIM amplitude", "SSIM phase", "held-out error", "judgement")
_FIRST = ("", "arm", "crashed (95 %)", "judgement", *_MAIN[5:])
"""Where not all fit, these before the others."""


def columns(standing: Standing) -> dict[str, str]:
    """What a table says of one arm: medians and quartiles, or the one value there is."""
    arm, counts = standing.arm, dict.fromkeys(("crashed (95 %)", "rate at most"), NONE)
    flat = NONE
    if results := len(arm.results):
        low, high = arm.crash_interval
        counts["crashed (95 %)"] = f"{arm.crashed}/{results} ({100 * low:.0f}–{100 * high:.0f} %)"
        counts["rate at most"] = percent(upper_bound(arm.crashed, results))
        flat = f"{arm.flat_by_ssim}/{results}"
    spreads = {}
    for measure in MEASURES:
        low, median, high, known = arm.summary(measure.key)
        low_end, middle, high_end = (formatted(value, measure.form) for value in (low, median, high))
        spreads[measure.label] = middle if known < 2 else f"{middle} ({low_end}–{high_end})"
    return {
        "": "" if standing.rank is None else str(standing.rank),
        "arm": arm.name,
        "runs": ", ".join(f"{count} {state}" for state, count in arm.states.items()),
        **counts,
        **spreads,
        f"SSIM < {FLAT_SSIM}": flat,
        "judgement": standing.judgement,
    }


def main_columns(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Of measured data no similarity is known, of simulated data no held-out error."""
    known = [key for key in _MAIN if key == "" or any(row[key] != NONE for row in rows)]
    return [{key: row[key] for key in known} for row in rows]


def show(console: Console, study: Study) -> None:
    """Warnings, as much of the main table as fits, and the verdict."""
    verdict = study.verdict
    for warning in study.warnings:
        console.print(Text(f"! {warning}", style="yellow"), soft_wrap=True)
    rows = main_columns([columns(standing) for standing in verdict.standings])
    styles = [
        "bold" if standing.arm is verdict.candidate else "" if standing.rank else "dim"
        for standing in verdict.standings
    ]
    print_fitting(console, rows, _FIRST, wrapped="judgement", styles=styles)
    console.print()
    console.print(Text(verdict.headline, style="bold"), soft_wrap=True)
    for sentence in verdict.sentences:
        console.print(Text(sentence), soft_wrap=True)


def differences(arm: Arm, control: Arm) -> list[tuple[str, str, str]]:
    """The settings in which ``arm`` is not as the control: key, the control's value, its own.

    Parts are named by their class; Hydra's own marks are left out.
    """
    if not (arm.settings and control.settings):
        return []
    found = []
    for key in differing({"control": control.settings, "arm": arm.settings}):
        theirs, ours = (settings.get(key, NONE) for settings in (control.settings, arm.settings))
        if key.endswith("._target_"):
            theirs, ours = theirs.rsplit(".", 1)[-1], ours.rsplit(".", 1)[-1]
        if not key.endswith("._partial_"):
            found.append((key.removesuffix("._target_"), theirs, ours))
    return found


def of_runs(study: Study) -> list[dict[str, Any]]:
    """What is told of every run, the ones that count nowhere last."""
    rows = [_values(arm, run, True) for arm in study.arms for run in arm.runs]
    return rows + [_values(arm, run, False) for arm in study.arms for run in arm.repeated]


def comma_separated(study: Study) -> str:
    """One line per run."""
    rows = of_runs(study)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: in_spreadsheet(entry) for key, entry in row.items()} for row in rows)
    return text.getvalue()


def as_text(value: Any) -> str:
    if value is None or value == "":
        return NONE
    return formatted(value) if isinstance(value, float) else str(value)


def _values(arm: Arm, run: FoundRun, counted: bool) -> dict[str, Any]:
    return {
        "arm": arm.name,
        "seed": run.seed,
        "data_seed": run.data_seed,
        "state": run.state,
        "counted": counted,
        "directory": run.name,
        **{measure.key: run.measures[measure.key] for measure in MEASURES},
        "final_val_loss": run.final_val_loss,
        "flat_baseline": run.flat_baseline,
        "fell_later": run.fell_later,
        "epochs": int(run.epochs.size),
        "parameters": run.parameters,
        "device": run.device,
        "dataset_key": run.dataset_key,
        "code": run.code,
        "commit": run.commit,
        "error": run.error,
        "problems": "; ".join(run.problems),
    }


def in_spreadsheet(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; numbers stay numbers, NaN an empty cell."""
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value

"""The report as text for people (Markdown) and as data (CSV, JSON)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ptychofno.report.arms import FLAT_SSIM, Arm
from ptychofno.report.evidence import survival, upper_bound
from ptychofno.report.ranking import FEWEST_SEEDS, LOSS_MARGIN, Standing
from ptychofno.report.runs import GIVEN_BACK, MEASURES, FoundRun
from ptychofno.report.study import Study
from ptychofno.report.wording import NONE, formatted, in_markdown, in_spreadsheet, listed, percent
from ptychofno.runs.comparison import differing
from ptychofno.runs.stats import FLAT_ABOVE, GOOD_SSIM, LEFT_PLATEAU_BELOW

DEFINITIONS = (
    "Crash rate: collapsed and diverged runs among those with a result (completed, collapsed, diverged), "
    "with Wilson's 95 % interval; beside it what the true rate is at most (Clopper and Pearson, one-sided, "
    f"95 %). Collapsed: ended flat, with a validation loss above {FLAT_ABOVE} of "
    "the best flat object's; where an output module changes the patches, only if these are also all alike.",
    "Medians and quartiles: over the completed runs. Gradient norms: before clipping, over every step of "
    "every run with a result.",
    f"Epoch off the plateau: the first epoch with a validation loss below {LEFT_PLATEAU_BELOW} of the flat "
    "object's. Epoch of failure: the epoch in which a diverged run ended, or from which on a collapsed run "
    "stayed on the plateau.",
    f"Stable: median amplitude SSIM above {GOOD_SSIM} and no run that fell later, that is, lost "
    f"{100 * GIVEN_BACK:.0f} % of what it had once gained on the flat object's loss.",
    f"Fix: fewer crashes than the control over {FEWEST_SEEDS} seeds or more, at a median validation loss "
    f"not more than {100 * LOSS_MARGIN:.0f} % above the control's.",
    "Ranking: of arms with a result for every seed that at least half of the arms have; stable arms within "
    "that loss first, then by crash rate, then by median validation loss. "
    "Held-out error: the relative error of the diffraction amplitude of a measured scan's test patterns, as "
    "the object stitched from all others predicts them. Where all arms have it, they are ranked by it "
    "instead of the loss, which can be low although the object is wrong. Reference: the same data "
    "reconstructed without a network, by rounds of overlap from a flat object.",
)


def columns(standing: Standing) -> dict[str, str]:
    """What a table says of one arm, most important first."""
    arm = standing.arm
    low, high = arm.crash_interval
    crashes = f"{arm.crashed}/{len(arm.results)} ({100 * low:.0f}–{100 * high:.0f} %)"
    cells = {
        "": "" if standing.rank is None else str(standing.rank),
        "arm": arm.name,
        "runs": ", ".join(f"{count} {state}" for state, count in arm.states.items()),
        "crashed (95 %)": crashes if arm.results else NONE,
        "rate at most": percent(upper_bound(arm.crashed, len(arm.results))) if arm.results else NONE,
    }
    cells |= {measure.label: spread(arm, measure.key, measure.form) for measure in MEASURES}
    median, high_norm, largest = (formatted(norm, "{:.3g}") for norm in arm.grad_norm)
    cells["gradient norm, 99 %, max"] = f"{median}, {high_norm}, {largest}"
    cells["epoch of failure"] = listed(arm.failure_epochs) if arm.failure_epochs else NONE
    cells[f"SSIM < {FLAT_SSIM}"] = f"{arm.flat_by_ssim}/{len(arm.results)}" if arm.results else NONE
    cells["judgement"] = standing.judgement
    return cells


def spread(arm: Arm, measure: str, form: str) -> str:
    """``0.0138 (0.0131–0.0150)``: median and quartiles, or the one value there is."""
    summary = arm.summary(measure)
    if summary.count < 2:
        return formatted(summary.median, form)
    return (
        f"{formatted(summary.median, form)} ({formatted(summary.low, form)}–{formatted(summary.high, form)})"
    )


def differences(arm: Arm, control: Arm) -> list[tuple[str, str, str]]:
    """The settings in which ``arm`` is not as the control: key, the control's value, its own."""
    if arm.settings is None or control.settings is None:
        return []
    both = {"control": control.settings, "arm": arm.settings}
    return [(key, control.settings.get(key, NONE), arm.settings.get(key, NONE)) for key in differing(both)]


def readable_differences(arm: Arm, control: Arm) -> list[tuple[str, str, str]]:
    """``differences`` for people: parts by the name of their class, without Hydra's own marks."""
    found = []
    for key, theirs, ours in differences(arm, control):
        if key.endswith("._target_"):
            theirs, ours = theirs.rsplit(".", 1)[-1], ours.rsplit(".", 1)[-1]
        if not key.endswith("._partial_"):
            found.append((key.removesuffix("._target_"), theirs, ours))
    return found


def markdown(study: Study) -> str:
    lines = [f"# {in_markdown(study.name)}", ""]
    lines += [f"> **{in_markdown(warning)}**\n>" for warning in study.warnings]
    lines += ["", f"**{in_markdown(study.verdict.headline)}**", ""]
    lines += [f"- {in_markdown(sentence)}" for sentence in study.verdict.sentences]
    lines += ["", "## Arms", "", *_table([columns(standing) for standing in study.verdict.standings])]
    if study.control:
        lines += ["", f"## Settings that differ from {in_markdown(study.control.name)}", ""]
        rows = [
            {"arm": arm.name, "setting": key, "control": theirs, "arm's": ours}
            for arm in study.trained
            for key, theirs, ours in readable_differences(arm, study.control)
        ]
        lines += _table(rows) if rows else ["None."]
    lines += ["", "## Runs", "", *_table([run_cells(arm, run) for arm in study.arms for run in arm.runs])]
    lines += ["", "## How it is counted", "", *(f"- {in_markdown(line)}" for line in DEFINITIONS), ""]
    return "\n".join(lines)


def comma_separated(study: Study) -> str:
    """One line per run, the ones that count nowhere included."""
    text = io.StringIO()
    rows = list(_runs(study))
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: in_spreadsheet(entry) for key, entry in row.items()} for row in rows)
    return text.getvalue()


def as_values(study: Study) -> dict[str, Any]:
    """Everything in plain values; NaN for what is not there."""
    return {
        "study": study.name,
        "warnings": list(study.warnings),
        "control": study.control.name if study.control else None,
        "candidate": study.verdict.candidate.name if study.verdict.candidate else None,
        "headline": study.verdict.headline,
        "sentences": list(study.verdict.sentences),
        "arms": [_arm_values(standing, study.control) for standing in study.verdict.standings],
        "runs": list(_runs(study)),
        "definitions": list(DEFINITIONS),
    }


def _arm_values(standing: Standing, control: Arm | None) -> dict[str, Any]:
    arm = standing.arm
    return {
        "arm": arm.name,
        "rank": standing.rank,
        "judgement": standing.judgement,
        "stable": standing.stable,
        "seeds": [run.seed for run in arm.runs],
        "states": arm.states,
        "crashed": arm.crashed,
        "results": len(arm.results),
        "crash_rate": arm.crash_rate,
        "crash_interval": list(arm.crash_interval),
        "crash_rate_at_most": upper_bound(arm.crashed, len(arm.results)) if arm.results else math.nan,
        "boschloo_holm_p_fewer_than_control": standing.fewer_crashes,
        "half_off_plateau_by_epoch": survival(arm.plateau)[2] if len(arm.plateau) else math.nan,
        "loss_relative_to_control": standing.loss_change,
        "below_published_ssim": arm.flat_by_ssim,
        "failure_epochs": arm.failure_epochs,
        "grad_norm": dict(zip(("median", "p99", "max"), arm.grad_norm, strict=True)),
        "measures": {measure.key: asdict(arm.summary(measure.key)) for measure in MEASURES},
        "differs_from_control": {
            key: {"control": theirs, "arm": ours}
            for key, theirs, ours in (differences(arm, control) if control and not arm.is_reference else [])
        },
    }


def _runs(study: Study) -> list[dict[str, Any]]:
    return [
        _run_values(arm, run, counted)
        for arm in study.arms
        for counted, runs in ((True, arm.runs), (False, arm.repeated))
        for run in runs
    ]


def _run_values(arm: Arm, run: FoundRun, counted: bool) -> dict[str, Any]:
    norms = Arm("", (run,), None).grad_norm
    return {
        "arm": arm.name,
        "seed": run.seed,
        "data_seed": run.data_seed,
        "state": run.state,
        "counted": counted,
        "directory": run.name,
        **{measure.key: run.measures.get(measure.key, math.nan) for measure in MEASURES},
        "final_val_loss": run.final_val_loss,
        "flat_baseline": run.flat_baseline,
        "fell_later": run.fell_later,
        "epochs": int(run.epochs.size),
        "steps": int(run.grad_norms.size),
        "failure_epoch": run.failure_epoch,
        **dict(zip(("grad_norm_median", "grad_norm_p99", "grad_norm_max"), norms, strict=True)),
        "parameters": run.parameters,
        "device": run.device,
        "dataset_key": run.dataset_key,
        "code": run.code,
        "commit": run.commit,
        "error": run.error,
        "problems": "; ".join(run.problems),
    }


def run_cells(arm: Arm, run: FoundRun) -> dict[str, str]:
    """What a table for people says of one run."""
    return {
        "arm": arm.name,
        "seed": NONE if run.seed is None else str(run.seed),
        "data.seed": NONE if run.data_seed is None else str(run.data_seed),
        "state": run.state,
        **{m.label: formatted(run.measures.get(m.key), m.form) for m in MEASURES[:4]},
        "epochs": str(run.epochs.size),
        "error": run.error,
    }


def _table(rows: Sequence[dict[str, str]]) -> list[str]:
    return [
        f"| {' | '.join(rows[0])} |",
        f"|{'---|' * len(rows[0])}",
        *(f"| {' | '.join(in_markdown(cell) for cell in row.values())} |" for row in rows),
    ]

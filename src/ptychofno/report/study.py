"""A study: the runs found under some directories, grouped, compared and ranked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ptychofno.config.errors import ConfigError, one_of
from ptychofno.display.text import one_line
from ptychofno.report.arms import Arm, group
from ptychofno.report.comparability import compare
from ptychofno.report.files import find
from ptychofno.report.runs import FoundRun, read, read_reference
from ptychofno.report.verdict import Verdict, decide

CONTROL = "control"


@dataclass(frozen=True)
class Study:
    name: str
    control: Arm | None
    verdict: Verdict
    warnings: tuple[str, ...]
    """What stands on top of every output."""

    @property
    def arms(self) -> tuple[Arm, ...]:
        """In the order of the ranking, then those that are not ranked, references last."""
        return tuple(standing.arm for standing in self.verdict.standings)

    @property
    def trained(self) -> tuple[Arm, ...]:
        """The arms without the references."""
        return tuple(arm for arm in self.arms if not arm.is_reference)


def load(paths: Sequence[Path], control: str | None = None, anyway: bool = False) -> Study:
    """Read and rank the runs in and below ``paths``.

    Reconstructions from a flat object, without a network, are references for runs on the same data.

    Args:
        control: the arm to compare with; without, the one named ``control`` where there is one.
        anyway: see ``compare``.

    Raises ConfigError when a path cannot be listed, no run is found, or no arm has that name.
    """
    for path in paths:
        if not path.is_dir():
            raise ConfigError(f"{path}: no such directory; expected a study or run directory")
    try:
        found = find(paths)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be listed: {error.strerror}") from None
    if not found.runs:
        raise ConfigError(f"{paths[0]}: no run in it or below it; a run is a directory with a run.json")
    runs = [read(path) for path in found.runs]
    arms = group(runs)
    names = [arm.name for arm in arms]
    if control is not None and control not in names:
        raise ConfigError(f"--control={one_line(control)}: no such arm; {one_of(control, names)}")
    compared_with = next((arm for arm in arms if arm.name == (control or CONTROL)), None)
    refused, warnings = compare(arms, compared_with, anyway)
    keys = {run.dataset_key for run in runs} - {None}
    references = [one for path in found.reconstructions if (one := read_reference(path))]
    own = [one for one in references if one.dataset_key in keys]
    if others := [one.name for one in references if one.dataset_key not in keys]:
        left_out = ", ".join(others[:5])
        found.remarks.append(f"reconstructions from a flat object, of other data, left out: {left_out}")
    verdict = decide(arms, compared_with, refused, group(own))
    warnings += [f"{remark}." for remark in found.remarks]
    return Study(_name(runs), compared_with, verdict, tuple(warnings))


def _name(runs: Sequence[FoundRun]) -> str:
    """What the runs call their study when they agree, else the name of the directory that holds them all."""
    named = {run.study for run in runs}
    agreed = named.pop() if len(named) == 1 else None
    common = os.path.commonpath([run.path.resolve() for run in runs])
    return agreed or one_line(Path(common).name) or "runs"

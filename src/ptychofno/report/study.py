"""A study: the runs found under some directories, grouped, compared and ranked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ptychofno.config.errors import ConfigError, one_of
from ptychofno.report.arms import Arm, group
from ptychofno.report.comparability import Comparison, compare
from ptychofno.report.find import find
from ptychofno.report.runs import FoundRun, read, read_reference
from ptychofno.report.verdict import Verdict, decide
from ptychofno.report.wording import one_line

CONTROL = "control"


@dataclass(frozen=True)
class Study:
    name: str
    arms: tuple[Arm, ...]
    """In the order of the ranking, then those that are not ranked, references last."""
    comparison: Comparison
    verdict: Verdict
    warnings: tuple[str, ...]
    """What stands on top of every output."""

    @property
    def control(self) -> Arm | None:
        return self.comparison.control

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
    comparison = compare(arms, _control(arms, control), anyway)
    references, others = _references(found.reconstructions, {run.dataset_key for run in runs})
    remarks = [*found.remarks, *others]
    verdict = decide(arms, comparison, group(references))
    ordered = tuple(standing.arm for standing in verdict.standings)
    warnings = (*comparison.warnings, *(f"{remark}." for remark in remarks))
    return Study(_name(runs), ordered, comparison, verdict, warnings)


def _references(paths: Sequence[Path], dataset_keys: set[str | None]) -> tuple[list[FoundRun], list[str]]:
    """Reconstructions from a flat object of the runs' data; and a remark on those of other data."""
    own: list[FoundRun] = []
    others: list[FoundRun] = []
    for path in paths:
        if (reference := read_reference(path)) is not None:
            known = reference.dataset_key is not None and reference.dataset_key in dataset_keys
            (own if known else others).append(reference)
    names = ", ".join(one.name for one in others[:5])
    return own, [f"reconstructions from a flat object, of other data, left out: {names}"] if others else []


def _control(arms: Sequence[Arm], name: str | None) -> Arm | None:
    for arm in arms:
        if arm.name == (name or CONTROL):
            return arm
    if name is not None:
        names = [arm.name for arm in arms]
        raise ConfigError(f"--control={one_line(name)}: no such arm; {one_of(name, names)}")
    return None


def _name(runs: Sequence[FoundRun]) -> str:
    """What the runs call their study when they agree, else the name of the directory that holds them all."""
    named = {run.study for run in runs}
    agreed = named.pop() if len(named) == 1 else None
    common = os.path.commonpath([run.path.resolve() for run in runs])
    return agreed or one_line(Path(common).name) or "runs"

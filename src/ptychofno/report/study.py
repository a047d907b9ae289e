"""A study: the runs found under some directories, grouped, compared and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ptychofno.config.errors import ConfigError, one_of
from ptychofno.report.arms import Arm, group
from ptychofno.report.comparability import Comparison, compare
from ptychofno.report.runs import each, find
from ptychofno.report.verdict import Verdict, judge
from ptychofno.report.wording import plain

CONTROL = "control"


@dataclass(frozen=True)
class Study:
    name: str
    arms: tuple[Arm, ...]
    """In the order of the ranking, those that are not ranked last."""
    comparison: Comparison
    verdict: Verdict
    warnings: tuple[str, ...]
    """What stands on top of every output."""

    @property
    def control(self) -> Arm | None:
        return self.comparison.control


def load(paths: Sequence[Path], control: str | None = None, anyway: bool = False) -> Study:
    """Read and judge the runs in ``paths``: run directories, or directories that hold some.

    Args:
        control: the arm to compare with; without, the one named ``control`` where there is one.
        anyway: see ``compare``.

    Raises ConfigError when a path cannot be listed, no run is found, or no arm has that name.
    """
    for path in paths:
        if not path.is_dir():
            raise ConfigError(f"{path}: no such directory; expected a study or run directory")
    try:
        found, remarks = find(paths)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be listed: {error.strerror}") from None
    if not found:
        raise ConfigError(f"{paths[0]}: holds no run; expected directories with a run.json")
    arms = group(list(each(found)))
    chosen = _control(arms, control)
    comparison = compare(arms, chosen, anyway)
    name = _name(arms, paths[0])
    verdict = judge(arms, comparison, "Stage B candidate" if name.startswith("stage_a") else "first choice")
    ordered = tuple(standing.arm for standing in verdict.standings)
    return Study(name, ordered, comparison, verdict, (*comparison.warnings, *(f"{r}." for r in remarks)))


def _control(arms: Sequence[Arm], name: str | None) -> Arm | None:
    for arm in arms:
        if arm.name == (name or CONTROL):
            return arm
    if name is not None:
        raise ConfigError(f"--control={plain(name)}: no such arm; {one_of(name, [arm.name for arm in arms])}")
    return None


def _name(arms: Sequence[Arm], path: Path) -> str:
    """What the runs call their study when they agree, else the directory's name."""
    named = {run.study for arm in arms for run in arm.runs}
    agreed = named.pop() if len(named) == 1 else None
    return agreed or plain(path.resolve().name)

"""Which arms may be ranked together, and what a reader has to know before the first number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ptychofno.display.text import counted
from ptychofno.report.arms import Arm
from ptychofno.report.runs import UNKNOWN, FoundRun
from ptychofno.report.wording import listed, one_line
from ptychofno.runs.comparison import differing

# Arms of different losses cannot be ranked by it.
_SAME_LOSS = ("loss._target_",)
_SAME_BUDGET = ("trainer.max_epochs", "data.batch_size")


@dataclass(frozen=True)
class Comparison:
    """Arms that can be compared, and why the others cannot.

    Attributes:
        control: what the others are compared with; None where no arm is it.
        refused: reasons by arm's name; an arm in it is not ranked.
        warnings: sentences for the top of every output.
    """

    control: Arm | None
    refused: dict[str, str]
    warnings: tuple[str, ...]

    def ranked(self, arms: Iterable[Arm]) -> list[Arm]:
        return [arm for arm in arms if arm.name not in self.refused]


def compare(arms: Sequence[Arm], control: Arm | None, anyway: bool) -> Comparison:
    """Find out which arms may be ranked: those that are like the control, or else like most runs.

    Args:
        anyway: rank arms in spite of missing seeds and different code versions, with a warning.
            Different datasets and losses are never ranked together.
    """
    refused: dict[str, str] = {}
    warnings: list[str] = []
    expected = sorted({run.seed for arm in arms for run in arm.runs if run.seed is not None})

    def refuse(what: str, reasons: dict[str, str], *, always: bool) -> None:
        if not reasons:
            return
        kept_out = always or not anyway
        if kept_out:
            for name, reason in reasons.items():
                refused.setdefault(name, reason)
        outcome = "not ranked" if kept_out else "ranked anyway"
        details = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        warnings.append(f"{what}, {outcome}: {details}.")

    for what, name_of, noun, always in (
        ("Different datasets", lambda run: run.dataset_key, "dataset", True),
        ("Different code versions", lambda run: run.code, "code", False),
    ):
        refuse(what, _odd_ones(arms, control, name_of, noun), always=always)
    refuse("Different losses", _other_loss(arms, control), always=True)
    refuse("Missing results", _missing(arms, expected), always=False)
    return Comparison(control, refused, (*warnings, *_remarks(arms)))


def _odd_ones(
    arms: Sequence[Arm], control: Arm | None, name_of: Callable[[FoundRun], str | None], noun: str
) -> dict[str, str]:
    """Arms whose results do not all share the reference's dataset or code."""
    found = {arm.name: Counter(name_of(run) for run in arm.results) for arm in arms if arm.results}
    own = found.get(control.name, Counter()) if control else Counter()
    shared = own or sum(found.values(), Counter())
    if not shared:
        return {}
    reference = max(shared, key=lambda key: (shared[key], key or ""))
    return {
        name: f"{noun} {_listed_names(names)} instead of {_short(reference)}"
        for name, names in found.items()
        if set(names) != {reference} or reference is None
    }


def _other_loss(arms: Sequence[Arm], control: Arm | None) -> dict[str, str]:
    known = [arm for arm in arms if arm.settings]
    votes = Counter(_loss(arm) for arm in ([control] if control and control.settings else known))
    if not votes:
        return {}
    reference = votes.most_common(1)[0][0]
    return {arm.name: f"{_loss(arm)} instead of {reference}" for arm in known if _loss(arm) != reference}


def _loss(arm: Arm) -> str:
    return str((arm.settings or {}).get(_SAME_LOSS[0], "none named")).rsplit(".", 1)[-1]


def _missing(arms: Sequence[Arm], expected: Sequence[int]) -> dict[str, str]:
    reasons = {}
    for arm in arms:
        with_result = {run.seed for run in arm.results}
        state_of = {run.seed: run.state for run in arm.runs}
        lacking = [f"{seed} ({state_of.get(seed, 'no run')})" for seed in expected if seed not in with_result]
        if lacking or not arm.results:
            reasons[arm.name] = f"no result for seed {listed(lacking)}" if lacking else "no result"
    return reasons


def _remarks(arms: Sequence[Arm]) -> list[str]:
    remarks = []
    results = [run for arm in arms for run in arm.results]
    if changed := [run for run in results if (run.code or "").endswith("+")]:
        remarks.append(
            f"{counted(len(changed), 'run')} of {len(results)} ran with uncommitted changes "
            "(their commit is marked +), so it is not known which code that was."
        )
    devices = Counter(run.device for run in results if run.device)
    if len(devices) > 1:
        found = listed(f"{device} ({counted(number, 'run')})" for device, number in sorted(devices.items()))
        remarks.append(f"Runs differ in their device: {found}; results may differ in their last digits.")
    if repeated := [run.name for arm in arms for run in arm.repeated]:
        remarks.append(f"More than one run of an arm and a seed; these do not count: {_first_few(repeated)}.")
    if unseeded := [run.name for arm in arms for run in arm.runs if run.seed is None]:
        remarks.append(f"Runs whose seed is not known: {_first_few(unseeded)}.")
    if damaged := [f"{run.name} ({run.problems[0]})" for arm in arms for run in arm.runs if run.problems]:
        remarks.append(f"Runs with files that cannot be read: {_first_few(damaged)}.")
    if unknown := [run.name for arm in arms for run in arm.runs if run.state == UNKNOWN and not run.problems]:
        remarks.append(f"Runs whose state is not known: {_first_few(unknown)}.")
    known = {arm.name: arm.settings for arm in arms if arm.settings}
    differing_keys = differing(known) if known else []
    # An output module lowers the loss of any network before it.
    grouped = ("evaluation.", "model.output.")
    for key in (key for key in differing_keys if key in _SAME_BUDGET or key.startswith(grouped)):
        values = Counter(settings.get(key, "none") for settings in known.values())
        found = listed(f"{value} ({counted(number, 'arm')})" for value, number in sorted(values.items()))
        remarks.append(f"Arms differ in {key}: {found}.")
    return remarks


def _listed_names(names: Counter[str | None]) -> str:
    if len(names) == 1:
        return _short(*names)
    return listed(f"{_short(name)} ({counted(count, 'run')})" for name, count in names.items())


def _short(name: str | None) -> str:
    """A commit or key, cut to what tells it apart."""
    if name is None:
        return "unknown"
    return f"{name[:12]}{'+' if name.endswith('+') and len(name) > 12 else ''}"


def _first_few(names: Sequence[str], most: int = 5) -> str:
    first = ", ".join(one_line(name, 90) for name in names[:most])
    return first if len(names) <= most else f"{first} and {len(names) - most} more"

"""Which arms may be ranked together, and what a reader has to know before the first number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ptychofno.display.text import counted
from ptychofno.report.arms import Arm
from ptychofno.report.runs import UNKNOWN, FoundRun
from ptychofno.report.wording import listed, one_line
from ptychofno.runs.comparison import differing

# Arms of different losses, or of losses of other patterns, cannot be ranked by it.
_SAME_LOSS = ("loss._target_", "data.thinning")
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
        ("Different datasets", lambda run: (run.data_seed, run.dataset_key), "dataset", True),
        ("Different code versions", lambda run: (None, run.code), "code", False),
    ):
        refuse(what, _odd_ones(arms, control, name_of, noun), always=always)
    refuse("Different losses", _other_loss(arms, control), always=True)
    refuse("Missing results", _missing(arms), always=False)
    return Comparison(control, refused, (*warnings, *_remarks(arms)))


def _odd_ones(
    arms: Sequence[Arm],
    control: Arm | None,
    name_of: Callable[[FoundRun], tuple[int | None, str | None]],
    noun: str,
) -> dict[str, str]:
    """Arms whose results do not all share the reference's dataset, one per object, or code."""
    found = {arm.name: Counter(name_of(run) for run in arm.results) for arm in arms if arm.results}
    own = found.get(control.name, Counter()) if control else Counter()
    shared = own or sum(found.values(), Counter())
    objects = own or _common(found.values())
    by_frequency = sorted(shared, key=lambda pair: (shared[pair], pair[1] or ""))
    reference = {drawn: name for drawn, name in by_frequency if any(drawn == other for other, _ in objects)}
    expected = listed(_short(name) for name in reference.values())
    return {
        name: f"{noun} {_listed_names(pairs)} instead of {expected}"
        for name, pairs in found.items()
        if set(pairs) != set(reference.items()) or None in reference.values()
    }


def _common(found: Collection[Iterable[Any]]) -> list[Any]:
    """What at least half of all have, so that one with more makes no other incomplete; else what any has."""
    times = Counter(entry for entries in found for entry in set(entries))
    return [entry for entry, number in times.items() if 2 * number >= len(found)] or list(times)


def _other_loss(arms: Sequence[Arm], control: Arm | None) -> dict[str, str]:
    known = [arm for arm in arms if arm.settings]
    votes = Counter(_loss(arm) for arm in ([control] if control and control.settings else known))
    if not votes:
        return {}
    reference = votes.most_common(1)[0][0]
    return {arm.name: f"{_loss(arm)} instead of {reference}" for arm in known if _loss(arm) != reference}


def _loss(arm: Arm) -> str:
    name, thinning = ((arm.settings or {}).get(key) for key in _SAME_LOSS)
    named = "none named" if name is None else name.rsplit(".", 1)[-1]
    return named if thinning in (None, "null") else f"{named} of thinned patterns (data.thinning={thinning})"


def _missing(arms: Sequence[Arm]) -> dict[str, str]:
    """Arms without a result for an object and seed that is ``_common``."""
    states = [
        {(run.data_seed, run.seed): run.state for run in arm.runs if run.seed is not None} for arm in arms
    ]
    expected = sorted(_common(states), key=lambda pair: (pair[0] or 0, pair[1]))
    several = len({drawn for drawn, _ in expected}) > 1
    reasons = {}
    for arm, state_of in zip(arms, states, strict=True):
        with_result = {(run.data_seed, run.seed) for run in arm.results}
        lacking = [
            f"{seed}{f' of data.seed {drawn}' if several else ''} ({state_of.get((drawn, seed), 'no run')})"
            for drawn, seed in expected
            if (drawn, seed) not in with_result
        ]
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
    if further := [run.name for run in results if run.given_more_epochs]:
        remarks.append(
            f"Runs that were given more epochs later: {_first_few(further)}; a schedule over all epochs was "
            "another one at first, so they are not the same as runs of that many epochs."
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


def _listed_names(pairs: Counter[tuple[int | None, str | None]]) -> str:
    if len(pairs) == 1:
        return _short(next(iter(pairs))[1])
    return listed(f"{_short(name)} ({counted(count, 'run')})" for (_, name), count in pairs.items())


def _short(name: str | None) -> str:
    """A commit or key, cut to what tells it apart."""
    if name is None:
        return "unknown"
    return f"{name[:12]}{'+' if name.endswith('+') and len(name) > 12 else ''}"


def _first_few(names: Sequence[str], most: int = 5) -> str:
    first = ", ".join(one_line(name, 90) for name in names[:most])
    return first if len(names) <= most else f"{first} and {len(names) - most} more"

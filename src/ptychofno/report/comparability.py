"""Which arms may be ranked together, and what a reader has to know before the first number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from ptychofno.display.text import counted, listed, one_line
from ptychofno.report.arms import Arm
from ptychofno.report.runs import UNKNOWN, FoundRun
from ptychofno.runs.comparison import differing

_SAME_BUDGET = ("trainer.max_epochs", "data.batch_size")
_LOWERS_THE_LOSS = ("evaluation.", "model.output.")
_MORE_EPOCHS = (
    "Runs that were given more epochs later: {}; a schedule over all epochs was another one at first, so "
    "they are not the same as runs of that many epochs."
)


def compare(arms: Sequence[Arm], control: Arm | None, anyway: bool) -> tuple[dict[str, str], list[str]]:
    """Find out which arms may be ranked: those that are like the control, or else like most runs.

    Args:
        anyway: rank arms in spite of missing seeds and different code versions, with a warning.
            Different datasets and losses are never ranked together.

    Returns the reasons why arms are not ranked, by their names, and sentences for the top of every output.
    """
    datasets = _odd_ones(arms, control, lambda run: (run.data_seed, run.dataset_key), "dataset")
    codes = _odd_ones(arms, control, lambda run: (None, run.code), "code")
    refused: dict[str, str] = {}
    warnings: list[str] = []
    for what, reasons, forgiven in (
        ("Different datasets", datasets, False),
        ("Different code versions", codes, anyway),
        ("Different losses", _other_loss(arms, control), False),
        ("Missing results", _missing(arms), anyway),
    ):
        if reasons:
            refused = refused if forgiven else reasons | refused
            details = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
            warnings.append(f"{what}, {'ranked anyway' if forgiven else 'not ranked'}: {details}.")
    return refused, warnings + _about_runs(arms) + _about_settings(arms)


def _odd_ones(
    arms: Sequence[Arm],
    control: Arm | None,
    name_of: Callable[[FoundRun], tuple[int | None, str | None]],
    noun: str,
) -> dict[str, str]:
    """Arms whose results do not all share the reference's dataset, one per object, or code."""
    found = {arm.name: Counter(name_of(run) for run in arm.results) for arm in arms if arm.results}
    if not found:
        return {}
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
    """Arms of another loss, or of the loss of other patterns, which cannot be ranked by it."""
    losses = {arm.name: _loss(arm) for arm in arms if arm.settings}
    if not losses:
        return {}
    usual = Counter(losses.values()).most_common(1)[0][0]
    reference = losses.get(control.name, usual) if control else usual
    return {name: f"{loss} instead of {reference}" for name, loss in losses.items() if loss != reference}


def _loss(arm: Arm) -> str:
    name, thinning = (arm.settings.get(key) for key in ("loss._target_", "data.thinning"))
    named = "none named" if name is None else name.rsplit(".", 1)[-1]
    return named if thinning in (None, "null") else f"{named} of thinned patterns (data.thinning={thinning})"


def _missing(arms: Sequence[Arm]) -> dict[str, str]:
    """Arms without a result for an object and seed that is ``_common``."""
    found = [{(run.data_seed, run.seed): run for run in arm.runs if run.seed is not None} for arm in arms]
    expected = sorted(_common(found), key=lambda pair: (pair[0] or 0, pair[1]))
    several = len({drawn for drawn, _ in expected}) > 1
    reasons = {}
    for arm, runs in zip(arms, found, strict=True):
        lacking = [
            f"{seed}{f' of data.seed {drawn}' if several else ''}"
            f" ({runs[drawn, seed].state if (drawn, seed) in runs else 'no run'})"
            for drawn, seed in expected
            if (drawn, seed) not in runs or not runs[drawn, seed].has_result
        ]
        if lacking or not arm.results:
            reasons[arm.name] = f"no result for seed {listed(lacking)}" if lacking else "no result"
    return reasons


def _about_runs(arms: Sequence[Arm]) -> list[str]:
    runs = [run for arm in arms for run in arm.runs]
    results = [run for run in runs if run.has_result]
    remarks = []
    if changed := [run for run in results if (run.code or "").endswith("+")]:
        remarks.append(
            f"{counted(len(changed), 'run')} of {len(results)} ran with uncommitted changes "
            "(their commit is marked +), so it is not known which code that was."
        )
    devices = Counter(run.device for run in results if run.device)
    if len(devices) > 1:
        found = listed(f"{device} ({counted(number, 'run')})" for device, number in sorted(devices.items()))
        remarks.append(f"Runs differ in their device: {found}; results may differ in their last digits.")
    repeated = [run.name for arm in arms for run in arm.repeated]
    unread = [f"{run.name} ({run.problems[0]})" for run in runs if run.problems]
    unknown = [run.name for run in runs if run.state == UNKNOWN and not run.problems]
    for sentence, names in (
        (_MORE_EPOCHS, [run.name for run in results if run.given_more_epochs]),
        ("More than one run of an arm and a seed; these do not count: {}.", repeated),
        ("Runs whose seed is not known: {}.", [run.name for run in runs if run.seed is None]),
        ("Runs with files that cannot be read: {}.", unread),
        ("Runs whose state is not known: {}.", unknown),
    ):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            remarks.append(sentence.format(", ".join(one_line(name, 90) for name in names[:5]) + more))
    return remarks


def _about_settings(arms: Sequence[Arm]) -> list[str]:
    """What makes arms differ that are ranked all the same."""
    known = {arm.name: arm.settings for arm in arms if arm.settings}
    remarks = []
    for key in differing(known) if known else []:
        if key in _SAME_BUDGET or key.startswith(_LOWERS_THE_LOSS):
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

"""Ranking, and what the runs show in words.

A stable arm reaches an amplitude SSIM above 0.8 and does not fall later. A fix crashes in fewer runs than
the control, over five seeds or more, at a median loss not more than 10 % above the control's. For arms on
measured data the held-out error takes the place of the loss.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ptychofno.display.text import counted
from ptychofno.report import evidence
from ptychofno.report.arms import Arm
from ptychofno.report.comparability import Comparison
from ptychofno.report.runs import HELD_OUT_ERROR, LOSS, Measure
from ptychofno.report.wording import formatted, listed, percent
from ptychofno.runs.stats import GOOD_SSIM

LOSS_MARGIN = 0.10
FEWEST_SEEDS = 5
SMALL_RATE = 0.1


@dataclass(frozen=True)
class Standing:
    """Where one arm stands. ``rank`` counts from 1; None where the arm is not ranked."""

    arm: Arm
    rank: int | None
    stable: bool
    loss: Measure
    """What the ranking goes by: the held-out error where all arms have it, else the validation loss."""
    loss_change: float
    """Its median relative to the control's, minus 1; NaN without one of them."""
    fewer_crashes: float
    """One-sided p of Fisher's exact test against the control; NaN without one."""
    judgement: str
    """In a few words, for a table."""

    @property
    def qualifies(self) -> bool:
        """Stable, and its loss not above the margin."""
        return self.stable and not self.loss_change > LOSS_MARGIN


@dataclass(frozen=True)
class Verdict:
    standings: tuple[Standing, ...]
    """Ranked arms first, in order; references last."""
    candidate: Arm | None
    """The first of the ranking, where it qualifies."""
    headline: str
    sentences: tuple[str, ...]


def decide(arms: Sequence[Arm], comparison: Comparison, references: Sequence[Arm] = ()) -> Verdict:
    """Rank the comparable arms and say what that shows.

    Order: arms that qualify before others, then by crash rate, then by median loss.
    """
    control = comparison.control
    usable = control if control and control.name not in comparison.refused else None
    comparable = comparison.ranked(arms)
    has_error = [arm.values(HELD_OUT_ERROR.key).size > 0 for arm in comparable if arm.successes]
    loss = HELD_OUT_ERROR if has_error and all(has_error) else LOSS
    ranked = sorted((_standing(arm, usable, loss, None, "") for arm in comparable), key=_order)
    standings = [
        _standing(entry.arm, usable, loss, rank, _judgement(entry, usable))
        for rank, entry in enumerate(ranked, 1)
    ]
    reasons = [(arm, f"not ranked: {comparison.refused.get(arm.name)}") for arm in arms]
    unranked = [
        _standing(arm, None, loss, None, why)
        for arm, why in (*reasons, *((arm, "reference: no network") for arm in references))
        if arm not in comparable
    ]
    first = standings[0] if standings else None
    candidate = first.arm if first and first.qualifies and (usable or not control) else None
    sentences = [*_about_control(standings, control, usable), *_about_rates(standings, usable)]
    if first and (candidate or loss is HELD_OUT_ERROR):
        sentences += _about_losses(standings, usable)
    headline = _headline(standings, candidate, control, usable)
    return Verdict((*standings, *unranked), candidate, headline, tuple(sentences))


def _standing(arm: Arm, control: Arm | None, loss: Measure, rank: int | None, judgement: str) -> Standing:
    ssim, median = arm.summary("ssim_amplitude").median, arm.summary(loss.key).median
    change = p = math.nan
    if control and control is not arm:
        own = control.summary(loss.key).median
        change = (median - own) / abs(own) if own else math.nan
        if arm.results and control.results:
            p = evidence.fewer(arm.crashed, len(arm.results), control.crashed, len(control.results))
    stable = ssim > GOOD_SSIM and not any(run.fell_later for run in arm.successes)
    return Standing(arm, rank, stable, loss, change, p, judgement)


def _order(entry: Standing) -> tuple[bool, float, float]:
    loss = entry.arm.summary(entry.loss.key).median
    return (
        not entry.qualifies,
        1.0 if math.isnan(entry.arm.crash_rate) else entry.arm.crash_rate,
        math.inf if math.isnan(loss) else loss,
    )


def _judgement(entry: Standing, control: Arm | None) -> str:
    arm = entry.arm
    remarks = _why_not_qualified(entry)
    if not arm.successes:
        return ", ".join(remarks)
    if arm is control:
        return ", ".join(["control", *remarks])
    if control is None:
        return ", ".join(remarks) or "stable"
    if not arm.crash_rate < control.crash_rate:
        crashes = "more crashes" if arm.crash_rate > control.crash_rate else "as many crashes"
        return ", ".join([crashes, *remarks])
    if remarks:
        return ", ".join(["fewer crashes", *remarks])
    fewest = min(len(arm.results), len(control.results))
    if fewest < FEWEST_SEEDS:
        return f"fewer crashes, too few seeds ({fewest} of {FEWEST_SEEDS})"
    return "fix" if evidence.beyond_chance(entry.fewer_crashes) else "fix, may be chance"


def _loss_word(entry: Standing) -> str:
    """``loss`` or ``error``."""
    return entry.loss.label.split()[-1]


def _why_not_qualified(entry: Standing) -> list[str]:
    arm = entry.arm
    if not arm.successes:
        return ["no run succeeded"]
    ssim = arm.summary("ssim_amplitude").median
    fallen = sum(run.fell_later for run in arm.successes)
    reasons = []
    if entry.loss_change > LOSS_MARGIN:
        reasons.append(f"{_loss_word(entry)} {percent(entry.loss_change)} worse")
    if not ssim > GOOD_SSIM:
        known = not math.isnan(ssim)
        reasons.append(f"SSIM not above {GOOD_SSIM}" if known else "no SSIM, as no truth is known")
    if fallen:
        reasons.append(f"{counted(fallen, 'run')} fell later")
    return reasons


def _headline(
    standings: Sequence[Standing], candidate: Arm | None, control: Arm | None, usable: Arm | None
) -> str:
    if not standings:
        return "No ranking: no arm can be compared with another."
    entry = standings[0]
    first, loss = entry.arm, entry.loss
    crashes = f"{first.crashed} of {counted(len(first.results), 'run')} crashed"
    median = f"median {loss.label} {formatted(first.summary(loss.key).median)}"
    if candidate:
        soon = " so far" if len(first.results) < FEWEST_SEEDS else ""
        quality = formatted(first.summary("ssim_amplitude").median, "{:.3f}")
        return f"Best arm{soon}: {first.name}. {crashes}, {median}, amplitude SSIM {quality}."
    if control and not usable:
        return f"No best arm: the control, {control.name}, cannot be compared."
    if loss is HELD_OUT_ERROR and first.successes and math.isnan(first.summary("ssim_amplitude").median):
        flat = first.summary("flat")
        beside = f" (flat object {formatted(flat.median)})" if flat.count else ""
        return (
            f"First by held-out error: {first.name}. {crashes}, {median}{beside}. "
            "No truth is known, so there is no SSIM that tells whether an arm is stable."
        )
    return (
        f"No best arm: {first.name}, first in the ranking, does not qualify:"
        f" {', '.join(_why_not_qualified(entry))}."
    )


def _about_control(standings: Sequence[Standing], control: Arm | None, usable: Arm | None) -> list[str]:
    if control is None:
        return [
            "No arm is named control, so arms are only compared with one another; --control ARM chooses one."
        ]
    if usable is None:
        return [f"Nothing is compared with the control, {control.name}, as it is not ranked itself."]
    crashes = f"{control.crashed} of {counted(len(control.results), 'run')}"
    if control.crashed == 0:
        return [f"The control never crashed ({crashes}), so no arm can be a fix."]
    fixes = [entry.arm.name for entry in standings if entry.judgement.startswith("fix")]
    named = f"Arms that count as a fix: {listed(fixes)}." if fixes else "No arm counts as a fix yet."
    return [f"The control crashed in {crashes}. {named}"]


def _about_rates(standings: Sequence[Standing], control: Arm | None) -> list[str]:
    """What the crash counts show: arms of the same count share a sentence."""
    alike: dict[tuple[int, int], list[Standing]] = defaultdict(list)
    for entry in standings:
        if entry.arm is not control and entry.arm.results:
            alike[entry.arm.crashed, len(entry.arm.results)].append(entry)
    if control is None or not control.results:
        fewest = min(alike, key=lambda counts: counts[0] / counts[1], default=None)
        return [_upper_end(*fewest)] if fewest else []
    sentences = []
    for (crashed, trials), entries in alike.items():
        rate, other, p = crashed / trials, control.crash_rate, entries[0].fewer_crashes
        names = listed(entry.arm.name for entry in entries)
        both = (
            f"{names}: {crashed} of {trials} crashed; control: {control.crashed} of {len(control.results)}."
        )
        test = f"(Fisher's exact test, one-sided p = {formatted(p, '{:.2g}')})"
        if rate > other:
            sentences.append(f"{both} That is no improvement.")
        elif rate == other:
            sentences.append(f"{both} {'That is no difference.' if crashed else _upper_end(crashed, trials)}")
        elif evidence.beyond_chance(p):
            sentences.append(f"{both} That is unlikely to be chance {test}.")
        else:
            sentences.append(f"{both} That may be chance {test}. {_needed(rate, other)}")
    return sentences


def _needed(rate: float, other: float) -> str:
    seeds = evidence.seeds_to_tell_rates(rate, other)
    number = f"more than {evidence.MOST_SEEDS}" if seeds is None else f"about {max(seeds, FEWEST_SEEDS)}"
    return (
        f"If these are the true rates, {number} seeds per arm are needed to show it (at a level of "
        f"{percent(evidence.LEVEL)}, in {percent(evidence.POWER)} of all such studies)."
    )


def _upper_end(crashed: int, trials: int) -> str:
    _, high = evidence.wilson(crashed, trials)
    crashes = f"{crashed} {'crash' if crashed == 1 else 'crashes'}"
    text = (
        f"With {crashes} in {counted(trials, 'run')}, the true crash rate may still be as high as"
        f" {percent(high)} (Wilson, 95 %)"
    )
    if crashed or high <= SMALL_RATE:
        return f"{text}."
    runs = evidence.seeds_to_bound(SMALL_RATE)
    return f"{text}; {runs} runs without a crash would show that it is below {percent(SMALL_RATE)}."


def _about_losses(standings: Sequence[Standing], control: Arm | None) -> list[str]:
    """Whether the first arm's loss differs from the control's and the next one's."""
    first, key = standings[0].arm, standings[0].loss.key
    rivals = [entry.arm for entry in standings[1:2]]
    if control and control is not first and control not in rivals:
        rivals.append(control)
    sentences = []
    for rival in rivals:
        ours, theirs = first.values(key).tolist(), rival.values(key).tolist()
        if not ours or not theirs:
            continue
        medians = (
            f"Median {_loss_word(standings[0])} of {first.name} {formatted(first.summary(key).median)}, of "
            f"{rival.name} {formatted(rival.summary(key).median)}"
        )
        p = evidence.differ(ours, theirs)
        test = f"(Mann-Whitney test, p = {formatted(p, '{:.2g}')})"
        if evidence.beyond_chance(p):
            sentences.append(f"{medians}. The difference is unlikely to be chance {test}.")
            continue
        needed = evidence.seeds_to_tell_losses(ours, theirs)
        needed = needed and max(needed, min(len(ours), len(theirs)) + 1)
        more = (
            f" To show a difference like this takes about {needed} successful seeds per arm."
            if needed
            else ""
        )
        sentences.append(f"{medians}. The difference may be chance {test}.{more}")
    return sentences

"""Ranking and verdict.

A stable arm reaches an amplitude SSIM above 0.8 and does not fall later. A fix fails in fewer runs than
the control, over five seeds or more, at a median loss not more than 10 % above the control's. For arms on
measured data the held-out error stands for the loss.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ptychofno.report import evidence
from ptychofno.report.arms import Arm
from ptychofno.report.comparability import Comparison
from ptychofno.report.runs import HELD_OUT_ERROR, LOSS, Measure
from ptychofno.report.wording import counted, listed, percent, shown
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
    """What tells arms apart: the held-out error where all have it, else the validation loss."""
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
    """Ranked arms first, in order."""
    candidate: Arm | None
    headline: str
    sentences: tuple[str, ...]


def judge(arms: Sequence[Arm], comparison: Comparison, prize: str) -> Verdict:
    """Rank the comparable arms and say what that shows.

    Order: arms that qualify before others, then by crash rate, then by median loss.

    Args:
        prize: what the first arm is, as in a sentence: ``Stage B candidate``.
    """
    control = comparison.control
    usable = control if control and control.name not in comparison.refused else None
    comparable = comparison.ranked(arms)
    told = [arm.values(HELD_OUT_ERROR.key).size > 0 for arm in comparable if arm.successes]
    loss = HELD_OUT_ERROR if told and all(told) else LOSS
    ranked = [_standing(arm, usable, loss, None, "") for arm in comparable]
    ranked.sort(key=_order)
    standings = [
        _standing(entry.arm, usable, loss, rank, _judgement(entry, usable))
        for rank, entry in enumerate(ranked, 1)
    ]
    left_out = [
        _standing(arm, None, loss, None, f"not ranked: {comparison.refused[arm.name]}")
        for arm in arms
        if arm.name in comparison.refused
    ]
    first = standings[0] if standings else None
    candidate = first.arm if first and first.qualifies and (usable or not control) else None
    sentences = [*_about_control(standings, control, usable), *_about_rates(standings, usable)]
    if candidate and first:
        sentences += _about_losses(standings, usable)
    headline = _headline(standings, candidate, prize, control, usable)
    return Verdict((*standings, *left_out), candidate, headline, tuple(sentences))


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
    if not arm.successes:
        return ", ".join(_why_not_stable(arm))
    remarks = []
    if entry.loss_change > LOSS_MARGIN:
        remarks.append(f"{_short(entry)} {percent(entry.loss_change)} worse")
    remarks += _why_not_stable(arm)
    if arm is control:
        return ", ".join(["control", *remarks])
    if control is None:
        return ", ".join(remarks) or "stable"
    if not arm.crash_rate < control.crash_rate:
        crashes = "more crashes" if arm.crash_rate > control.crash_rate else "as many crashes"
        return ", ".join([crashes, *remarks])
    fewest = min(len(arm.results), len(control.results))
    if remarks:
        return ", ".join(["fewer crashes", *remarks])
    if fewest < FEWEST_SEEDS:
        return f"fewer crashes, too few seeds ({fewest} of {FEWEST_SEEDS})"
    chance = "" if evidence.beyond_chance(entry.fewer_crashes) else ", may be chance"
    return f"fix{chance}"


def _short(entry: Standing) -> str:
    """``loss`` or ``error``."""
    return entry.loss.label.split()[-1]


def _why_not_stable(arm: Arm) -> list[str]:
    if not arm.successes:
        return ["no run succeeded"]
    ssim = arm.summary("ssim_amplitude").median
    fallen = sum(run.fell_later for run in arm.successes)
    reasons = []
    if not ssim > GOOD_SSIM:
        known = not math.isnan(ssim)
        reasons.append(f"SSIM not above {GOOD_SSIM}" if known else "no SSIM, as no truth is known")
    if fallen:
        reasons.append(f"{fallen} fell later")
    return reasons


def _headline(
    standings: Sequence[Standing],
    candidate: Arm | None,
    prize: str,
    control: Arm | None,
    usable: Arm | None,
) -> str:
    if not standings:
        return "No ranking: no arm can be compared with another."
    first = standings[0].arm
    if candidate is None:
        if control and not usable:
            reason = f"the control, {control.name}, cannot be compared"
        else:
            reasons = [*_why_not_stable(first)]
            if standings[0].loss_change > LOSS_MARGIN:
                change = percent(standings[0].loss_change)
                reasons.append(f"{_short(standings[0])} {change} worse than the control's")
            reason = f"{first.name}, first in the ranking, does not qualify: {', '.join(reasons)}"
        return f"No {prize}: {reason}."
    loss = standings[0].loss
    quality = shown(candidate.summary("ssim_amplitude").median, "{:.3f}")
    crashes = f"{candidate.crashed} of {counted(len(candidate.results), 'run')} crashed"
    doubt = ", for now" if len(candidate.results) < FEWEST_SEEDS else ""
    return (
        f"{prize[0].upper()}{prize[1:]}{doubt}: {candidate.name}. {crashes}, "
        f"median {loss.label} {shown(candidate.summary(loss.key).median)}, amplitude SSIM {quality}."
    )


def _about_control(standings: Sequence[Standing], control: Arm | None, usable: Arm | None) -> list[str]:
    if control is None:
        return ["No arm is the control: arms are ranked among themselves; --control NAME compares with one."]
    if usable is None:
        return [f"Nothing is compared with the control, {control.name}: it is itself not ranked."]
    fixes = [entry.arm.name for entry in standings if entry.judgement.startswith("fix")]
    crashes = f"{control.crashed} of {counted(len(control.results), 'run')}"
    if control.crashed == 0:
        return [f"The control never crashed ({crashes}), so no arm can be a fix."]
    named = f"Fixes by the criterion: {listed(fixes)}." if fixes else "No arm counts as a fix yet."
    return [f"The control crashed in {crashes}. {named}"]


def _about_rates(standings: Sequence[Standing], control: Arm | None) -> list[str]:
    """What the crash counts show: arms of the same count share a sentence."""
    alike: dict[tuple[int, int], list[Standing]] = defaultdict(list)
    for entry in standings:
        if entry.arm is not control and entry.arm.results:
            alike[entry.arm.crashed, len(entry.arm.results)].append(entry)
    if control is None or not control.results:
        counts = {(entry.arm.crashed, len(entry.arm.results)) for entry in standings if entry.arm.results}
        return [_upper_end(*min(counts, key=lambda c: c[0] / c[1]))] if counts else []
    sentences = []
    for (crashed, trials), entries in alike.items():
        names = listed(entry.arm.name for entry in entries)
        rate, other, p = crashed / trials, control.crash_rate, entries[0].fewer_crashes
        against = (
            f"{names}: {crashed} of {trials} crashed against {control.crashed} of {len(control.results)}"
        )
        if rate > other:
            sentences.append(f"{against}, which is no improvement.")
        elif rate == other:
            equal = f"{against}: no difference was seen, so no number of seeds follows from it. "
            sentences.append(equal + (_upper_end(crashed, trials) if crashed == 0 else ""))
        elif evidence.beyond_chance(p):
            sentences.append(
                f"{against}: more than chance (Fisher's exact test, one-sided p = {shown(p, '{:.2g}')})."
            )
        else:
            sentences.append(
                f"{against}: too few seeds to tell (Fisher's exact test, one-sided p = "
                f"{shown(p, '{:.2g}')}). {_needed(rate, other)}"
            )
    return [sentence.strip() for sentence in sentences]


def _needed(rate: float, other: float) -> str:
    seeds = evidence.seeds_to_tell_rates(rate, other)
    number = f"more than {evidence.MOST_SEEDS}" if seeds is None else f"about {max(seeds, FEWEST_SEEDS)}"
    return (
        f"If these are the true rates, {number} seeds per arm would show it "
        f"(at {percent(evidence.LEVEL)}, in {percent(evidence.POWER)} of all such studies)."
    )


def _upper_end(crashed: int, trials: int) -> str:
    _, high = evidence.wilson(crashed, trials)
    text = f"{crashed} of {trials} still allows a crash rate of up to {percent(high)} (Wilson, 95 %)"
    if crashed or high <= SMALL_RATE:
        return f"{text}."
    runs = evidence.seeds_to_bound(SMALL_RATE)
    return f"{text}; {runs} runs without a crash would bound it at {percent(SMALL_RATE)}."


def _about_losses(standings: Sequence[Standing], control: Arm | None) -> list[str]:
    """Whether the first arm's loss is set apart from the control's and the next one's."""
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
            f"Median {_short(standings[0])} of {first.name} {shown(first.summary(key).median)}, of "
            f"{rival.name} {shown(rival.summary(key).median)}"
        )
        p = evidence.differ(ours, theirs)
        test = f"(Mann-Whitney test, p = {shown(p, '{:.2g}')})"
        if evidence.beyond_chance(p):
            sentences.append(f"{medians}: more than chance {test}.")
            continue
        needed = evidence.seeds_to_tell_losses(ours, theirs)
        needed = needed and max(needed, min(len(ours), len(theirs)) + 1)
        more = (
            f" About {needed} successful seeds per arm would show a difference of this kind."
            if needed
            else ""
        )
        sentences.append(f"{medians}: too few seeds to tell them apart {test}.{more}")
    return sentences

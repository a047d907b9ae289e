"""Ranking, and what the runs show in words.

A stable arm reaches an amplitude SSIM above 0.8 and does not fall later. A fix crashes in fewer runs than
the control, over five seeds or more, at a median loss not more than 10 % above the control's. For arms on
measured data the held-out error takes the place of the loss.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    """Where one arm stands, alone and against the control."""

    arm: Arm
    loss: Measure
    """What the ranking goes by: the held-out error where all arms have it, else the validation loss."""
    control: Arm | None
    """None where there is none that can be compared with."""
    rank: int | None = None
    """From 1; None where the arm is not ranked."""
    why_not_ranked: str = ""

    @property
    def stable(self) -> bool:
        ssim = self.arm.summary("ssim_amplitude").median
        return ssim > GOOD_SSIM and not any(run.fell_later for run in self.arm.successes)

    @property
    def qualifies(self) -> bool:
        """Stable, and its loss not above the margin."""
        return self.stable and not self.loss_change > LOSS_MARGIN

    @property
    def loss_change(self) -> float:
        """Median loss relative to the control's, minus 1; NaN without one of them."""
        if self.control is None or self.control is self.arm:
            return math.nan
        own, other = (arm.summary(self.loss.key).median for arm in (self.arm, self.control))
        return (own - other) / abs(other) if other else math.nan

    @property
    def fewer_crashes(self) -> float:
        """One-sided p of Fisher's exact test against the control; NaN without one."""
        arm, control = self.arm, self.control
        if control is None or control is arm or not arm.results or not control.results:
            return math.nan
        return evidence.fewer(arm.crashed, len(arm.results), control.crashed, len(control.results))

    @property
    def loss_word(self) -> str:
        """``loss`` or ``error``."""
        return self.loss.label.split()[-1]

    @property
    def order(self) -> tuple[bool, float, float]:
        """Arms that qualify before others, then by crash rate, then by median loss."""
        rate, loss = self.arm.crash_rate, self.arm.summary(self.loss.key).median
        return not self.qualifies, 1.0 if math.isnan(rate) else rate, math.inf if math.isnan(loss) else loss

    @property
    def shortcomings(self) -> list[str]:
        """Why the arm does not qualify."""
        if not self.arm.successes:
            return ["no run succeeded"]
        ssim = self.arm.summary("ssim_amplitude").median
        fallen = sum(run.fell_later for run in self.arm.successes)
        reasons = []
        if self.loss_change > LOSS_MARGIN:
            reasons.append(f"{self.loss_word} {percent(self.loss_change)} worse")
        if math.isnan(ssim):
            reasons.append("no SSIM, as no truth is known")
        elif not ssim > GOOD_SSIM:
            reasons.append(f"SSIM not above {GOOD_SSIM}")
        if fallen:
            reasons.append(f"{counted(fallen, 'run')} fell later")
        return reasons

    @property
    def judgement(self) -> str:
        """In a few words, for a table."""
        arm, control, reasons = self.arm, self.control, self.shortcomings
        if self.rank is None:
            return self.why_not_ranked
        if not arm.successes:
            return ", ".join(reasons)
        if control is None:
            return ", ".join(reasons) or "stable"
        if arm is control:
            return ", ".join(["control", *reasons])
        if not arm.crash_rate < control.crash_rate:
            crashes = "more crashes" if arm.crash_rate > control.crash_rate else "as many crashes"
            return ", ".join([crashes, *reasons])
        if reasons:
            return ", ".join(["fewer crashes", *reasons])
        fewest = min(len(arm.results), len(control.results))
        if fewest < FEWEST_SEEDS:
            return f"fewer crashes, too few seeds ({fewest} of {FEWEST_SEEDS})"
        return "fix" if evidence.beyond_chance(self.fewer_crashes) else "fix, may be chance"


@dataclass(frozen=True)
class Verdict:
    standings: tuple[Standing, ...]
    """Ranked arms first, in order; references last."""
    candidate: Arm | None
    """The first of the ranking, where it qualifies."""
    headline: str
    sentences: tuple[str, ...]


def decide(arms: Sequence[Arm], comparison: Comparison, references: Sequence[Arm] = ()) -> Verdict:
    """Rank the comparable arms and say what that shows; see ``Standing.order``."""
    control = comparison.control
    usable = control if control and control.name not in comparison.refused else None
    comparable = comparison.ranked(arms)
    has_error = [arm.values(HELD_OUT_ERROR.key).size > 0 for arm in comparable if arm.successes]
    loss = HELD_OUT_ERROR if has_error and all(has_error) else LOSS
    ranked = sorted((Standing(arm, loss, usable) for arm in comparable), key=lambda entry: entry.order)
    standings = [replace(entry, rank=rank) for rank, entry in enumerate(ranked, 1)]
    refused = [(arm, f"not ranked: {comparison.refused[arm.name]}") for arm in arms if arm not in comparable]
    refused += [(reference, "reference: no network") for reference in references]
    unranked = [Standing(arm, loss, None, why_not_ranked=reason) for arm, reason in refused]
    first = standings[0] if standings else None
    candidate = first.arm if first and first.qualifies and (usable or not control) else None
    sentences = [*_about_control(standings, control, usable), *_about_rates(standings, usable)]
    if first and (candidate or loss is HELD_OUT_ERROR):
        sentences += _about_losses(standings, usable)
    headline = _headline(standings, candidate, control, usable)
    return Verdict((*standings, *unranked), candidate, headline, tuple(sentences))


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
        f"No best arm: {first.name}, first in the ranking, does not qualify: {', '.join(entry.shortcomings)}."
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
            f"Median {standings[0].loss_word} of {first.name} {formatted(first.summary(key).median)}, of "
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

"""What a comparison shows, in words: the effect first, then how sure it is and what more runs would show."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ptychofno.display.text import counted, formatted, listed, percent
from ptychofno.report import evidence
from ptychofno.report.arms import Arm
from ptychofno.report.ranking import FEWEST_SEEDS, Standing, ranked
from ptychofno.report.runs import HELD_OUT_ERROR, LOSS, Measure

SMALL_RATE = 0.1


@dataclass(frozen=True)
class Verdict:
    standings: tuple[Standing, ...]
    """Ranked arms first, in order; references last."""
    candidate: Arm | None
    """The first of the ranking, where it qualifies."""
    headline: str
    sentences: tuple[str, ...]


def decide(
    arms: Sequence[Arm], control: Arm | None, refused: Mapping[str, str], references: Sequence[Arm] = ()
) -> Verdict:
    """Rank the arms that are not ``refused`` and say what that shows; see ``Standing.order``."""
    usable = control if control and control.name not in refused else None
    comparable = [arm for arm in arms if arm.name not in refused]
    has_error = [arm.values(HELD_OUT_ERROR.key).size > 0 for arm in comparable if arm.successes]
    loss = HELD_OUT_ERROR if has_error and all(has_error) else LOSS
    standings = ranked(comparable, loss, usable)
    why_not = [(arm, f"not ranked: {refused[arm.name]}") for arm in arms if arm.name in refused]
    why_not += [(reference, "reference: no network") for reference in references]
    unranked = [Standing(arm, loss, why_not_ranked=reason) for arm, reason in why_not]
    first = standings[0] if standings else None
    candidate = first.arm if first and not first.shortcomings and (usable or not control) else None
    sentences = [*_about_control(standings, control, usable), *_about_rates(standings, usable)]
    if first and (candidate or loss is HELD_OUT_ERROR):
        sentences += _about_rivals(standings, usable)
    sentences += _about_objects(comparable, loss, usable)
    headline = _headline(standings, candidate, control, usable)
    return Verdict((*standings, *unranked), candidate, headline, tuple(sentences))


def _headline(
    standings: Sequence[Standing], candidate: Arm | None, control: Arm | None, usable: Arm | None
) -> str:
    if not standings:
        return "No ranking: no arm can be compared with another."
    if control and not usable:
        return f"No best arm: the control, {control.name}, cannot be compared."
    entry = standings[0]
    first, loss = entry.arm, entry.loss
    ssim = first.summary("ssim_amplitude").median
    found = (
        f"{first.name}. {first.crashed} of {counted(len(first.results), 'run')} crashed, "
        f"median {loss.label} {formatted(first.summary(loss.key).median)}"
    )
    if candidate:
        soon = " so far" if len(first.results) < FEWEST_SEEDS else ""
        return f"Best arm{soon}: {found}, amplitude SSIM {formatted(ssim, '{:.3f}')}."
    if loss is HELD_OUT_ERROR and first.successes and math.isnan(ssim):
        flat = first.summary("flat")
        beside = f" (flat object {formatted(flat.median)})" if flat.known else ""
        return (
            f"First by held-out error: {found}{beside}. "
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
    tests = sum(map(len, alike.values()))
    return [
        f"{listed(entry.arm.name for entry in entries)}: {crashed} of {trials} crashed; control: "
        f"{control.crashed} of {len(control.results)}"
        + _about_rate(crashed, trials, control.crash_rate, entries[0].fewer_crashes, tests)
        for (crashed, trials), entries in alike.items()
    ]


def _about_rate(crashed: int, trials: int, other: float, p: float, tests: int) -> str:
    rate = crashed / trials
    if rate > other:
        return ". That is no improvement."
    if rate == other:
        return f". {'That is no difference.' if crashed else _upper_end(crashed, trials)}"
    holm = f" after Holm for {tests} arms" if tests > 1 else ""
    test = f"(Boschloo's exact test, one-sided p = {formatted(p, '{:.2g}')}{holm})"
    effect = f", {100 * (other - rate):.0f} percentage points fewer."
    if evidence.beyond_chance(p):
        return f"{effect} That is unlikely to be chance {test}. {_upper_end(crashed, trials)}"
    # The rule is the same for every study: the rates as they are now, this level and power, one test.
    seeds = max(evidence.seeds_to_tell_rates(rate, other), FEWEST_SEEDS)
    return (
        f"{effect} That may be chance {test}. If these are the true rates, about {counted(seeds, 'run')} per "
        f"arm show it, {max(seeds - trials, 1)} more than now, tested once at the end (at a level of "
        f"{percent(evidence.LEVEL)}, in {percent(evidence.POWER)} of all such studies)."
    )


def _upper_end(crashed: int, trials: int) -> str:
    bound = evidence.upper_bound(crashed, trials)
    text = (
        f"With {crashed} {'crash' if crashed == 1 else 'crashes'} in {counted(trials, 'run')}, the true "
        f"crash rate is at most {percent(bound)} (one-sided, 95 %)"
    )
    if crashed or bound <= SMALL_RATE:
        return f"{text}."
    further = evidence.seeds_to_bound(SMALL_RATE) - trials
    return f"{text}; {further} more runs without a crash would bound it at {percent(SMALL_RATE)}."


def _about_rivals(standings: Sequence[Standing], control: Arm | None) -> list[str]:
    """How the first arm differs from the next one and the control, in loss and in the time on the plateau."""
    first = standings[0].arm
    rivals = [entry.arm for entry in standings[1:2]]
    if control and control is not first and control not in rivals:
        rivals.append(control)
    said = [about for rival in rivals for about in (_losses(standings[0], rival), _plateaus(first, rival))]
    return [*filter(None, said)]


def _losses(entry: Standing, rival: Arm) -> str:
    ours, theirs = entry.arm.values(entry.loss.key), rival.values(entry.loss.key)
    if not ours.size or not theirs.size:
        return ""
    change, low, high = evidence.medians_apart(ours, theirs)
    share, p = evidence.beats(ours, theirs)
    interval = f", 95 % {low:+.2g} to {high:+.2g}" if math.isfinite(low) else ""
    effect = (
        f"Median {entry.loss.noun} of {entry.arm.name} {formatted(float(np.median(ours)))}, of {rival.name} "
        f"{formatted(float(np.median(theirs)))} ({change:+.2g}{interval}); a run of {entry.arm.name} is the "
        f"better one in {percent(share)} of all pairs."
    )
    test = f"(Mann-Whitney test, p = {formatted(p, '{:.2g}')})"
    if evidence.beyond_chance(p):
        return f"{effect} That is unlikely to be chance {test}."
    effect = f"{effect} That may be chance {test}."
    needed = evidence.seeds_to_tell_losses(share)
    if needed is None:
        return effect
    runs = max(needed, min(ours.size, theirs.size) + 1)
    return f"{effect} To show such a share takes about {runs} successful runs per arm."


def _plateaus(arm: Arm, rival: Arm) -> str:
    if not (len(arm.plateau) and len(rival.plateau)):
        return ""
    halves = [evidence.survival(one.plateau)[2] for one in (arm, rival)]
    told = [f"epoch {half:.0f}" if math.isfinite(half) else "no epoch" for half in halves]
    p = evidence.differ_in_time(arm.plateau, rival.plateau)
    test = f" (log-rank test, p = {p:.2g})" if math.isfinite(p) else ""
    return (
        f"Half of all runs have left the flat plateau by {told[0]} with {arm.name}, by {told[1]} with "
        f"{rival.name}{test}."
    )


def _about_objects(arms: Sequence[Arm], loss: Measure, control: Arm | None) -> list[str]:
    """Whether another object, drawn with another ``data.seed``, puts another arm first."""
    objects = sorted({run.data_seed for arm in arms for run in arm.results if run.data_seed is not None})
    if len(objects) < 2 or len(arms) < 2:
        return []
    firsts: dict[str, list[int]] = defaultdict(list)
    for drawn in objects:
        on_it = [arm.on_object(drawn) for arm in arms]
        same = next((arm for arm in on_it if control and arm.name == control.name), None)
        firsts[ranked(on_it, loss, same)[0].arm.name].append(drawn)
    where = listed(f"{name} on data.seed {listed(drawn)}" for name, drawn in firsts.items())
    changes = "changes which arm is first:" if len(firsts) > 1 else "changes nothing: first is"
    return [f"The object {changes} {where}."]

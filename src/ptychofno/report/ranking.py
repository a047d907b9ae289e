"""The order of arms, alone and against the control.

A stable arm reaches an amplitude SSIM above 0.8 and does not fall later. A fix crashes in fewer runs than
the control, over five seeds or more, at a median loss not more than 10 % above the control's. For arms on
measured data the held-out error takes the place of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ptychofno.display.text import counted, percent
from ptychofno.report import evidence
from ptychofno.report.arms import Arm
from ptychofno.report.runs import Measure
from ptychofno.runs.stats import GOOD_SSIM

LOSS_MARGIN = 0.10
FEWEST_SEEDS = 5


@dataclass(frozen=True)
class Standing:
    """Where one arm stands, alone and against the control."""

    arm: Arm
    loss: Measure
    """What the ranking goes by: the held-out error where all arms have it, else the validation loss."""
    control: Arm | None = None
    """None where there is none that can be compared with."""
    fewer_crashes: float = math.nan
    """One-sided p of Boschloo's test against the control, after Holm's across arms; NaN without one."""
    rank: int | None = None
    """From 1; None where the arm is not ranked."""
    why_not_ranked: str = ""

    @property
    def loss_change(self) -> float:
        """Median loss relative to the control's, minus 1; NaN without one of them."""
        if self.control is None or self.control is self.arm:
            return math.nan
        own, other = (arm.summary(self.loss.key).median for arm in (self.arm, self.control))
        return (own - other) / abs(other) if other else math.nan

    @property
    def shortcomings(self) -> list[str]:
        """Why the arm does not qualify: it is stable without any, and its loss within the margin."""
        if not self.arm.successes:
            return ["no run succeeded"]
        ssim = self.arm.summary("ssim_amplitude").median
        fallen = sum(run.fell_later for run in self.arm.successes)
        reasons = []
        if self.loss_change > LOSS_MARGIN:
            reasons.append(f"{self.loss.noun} {percent(self.loss_change)} worse")
        if math.isnan(ssim):
            reasons.append("no SSIM, as no truth is known")
        elif not ssim > GOOD_SSIM:
            reasons.append(f"SSIM not above {GOOD_SSIM}")
        if fallen:
            reasons.append(f"{counted(fallen, 'run')} fell later")
        return reasons

    @property
    def order(self) -> tuple[bool, float, float]:
        """Arms that qualify before others, then by crash rate, then by median loss."""
        rate, loss = self.arm.crash_rate, self.arm.summary(self.loss.key).median
        unknown_last = 1.0 if math.isnan(rate) else rate, math.inf if math.isnan(loss) else loss
        return bool(self.shortcomings), *unknown_last

    @property
    def judgement(self) -> str:
        """In a few words, for a table."""
        if self.rank is None:
            return self.why_not_ranked
        arm, control, reasons = self.arm, self.control, self.shortcomings
        if control is None or not arm.successes:
            return ", ".join(reasons) or "stable"
        if arm is control:
            against = "control"
        elif arm.crash_rate < control.crash_rate:
            against = "fewer crashes"
        else:
            against = "more crashes" if arm.crash_rate > control.crash_rate else "as many crashes"
        fewest = min(len(arm.results), len(control.results))
        if reasons or against != "fewer crashes":
            return ", ".join([against, *reasons])
        if fewest < FEWEST_SEEDS:
            return f"fewer crashes, too few seeds ({fewest} of {FEWEST_SEEDS})"
        return "fix" if evidence.beyond_chance(self.fewer_crashes) else "fix, may be chance"


def ranked(arms: Sequence[Arm], loss: Measure, control: Arm | None) -> list[Standing]:
    """In order; the tests against the control allow for their number."""
    entries = [Standing(arm, loss, control) for arm in arms]
    if control is not None and control.results:
        tested = [index for index, arm in enumerate(arms) if arm is not control and arm.results]
        against = control.crashed, len(control.results)
        p_values = [evidence.fewer(arms[i].crashed, len(arms[i].results), *against) for i in tested]
        for index, p in zip(tested, evidence.holm(p_values), strict=True):
            entries[index] = replace(entries[index], fewer_crashes=p)
    entries.sort(key=lambda entry: entry.order)
    return [replace(entry, rank=rank) for rank, entry in enumerate(entries, 1)]

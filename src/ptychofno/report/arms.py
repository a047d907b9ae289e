"""Runs that differ in nothing but their seeds, that of the network and that of the object, taken together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import CensoredData

from ptychofno.display.text import one_line
from ptychofno.report.evidence import wilson
from ptychofno.report.runs import REFERENCE, UNKNOWN, FoundRun
from ptychofno.runs import artifacts
from ptychofno.runs.comparison import differing

FLAT_SSIM = 0.5
"""The published criterion of a collapse: an amplitude SSIM below this."""


class Summary(NamedTuple):
    """Median and quartiles, linear between values, of ``known`` runs; NaN without runs."""

    low: float
    median: float
    high: float
    known: int


@dataclass(frozen=True, eq=False)
class Arm:
    """One configuration and its runs, one per object and seed, in the order of these.

    ``settings`` are empty where no run left a readable configuration. ``repeated`` holds further runs of
    a seed that is there already; they count nowhere.
    """

    name: str
    runs: tuple[FoundRun, ...]
    settings: Mapping[str, Any]
    repeated: tuple[FoundRun, ...] = ()

    @property
    def is_reference(self) -> bool:
        """Whether this is no arm, but what the rounds of overlap find without a network."""
        return any(run.state == REFERENCE for run in self.runs)

    @cached_property
    def results(self) -> list[FoundRun]:
        return [run for run in self.runs if run.has_result]

    @cached_property
    def successes(self) -> list[FoundRun]:
        return [run for run in self.runs if run.succeeded]

    @property
    def crashed(self) -> int:
        return sum(not run.succeeded for run in self.results)

    @property
    def crash_rate(self) -> float:
        """Collapsed and diverged runs among those with a result; NaN without any."""
        return self.crashed / len(self.results) if self.results else math.nan

    @cached_property
    def crash_interval(self) -> tuple[float, float]:
        return wilson(self.crashed, len(self.results))

    @property
    def flat_by_ssim(self) -> int:
        """Results that the published criterion calls collapsed."""
        return sum(run.measures["ssim_amplitude"] < FLAT_SSIM for run in self.results)

    @property
    def states(self) -> dict[str, int]:
        found = Counter(run.state for run in self.runs)
        return {state: found[state] for state in (*artifacts.STATES, REFERENCE, UNKNOWN) if found[state]}

    def values(self, measure: str) -> NDArray[np.float64]:
        """A measure of the successful runs that have it."""
        values = np.array([run.measures[measure] for run in self.successes], dtype=np.float64)
        return values[np.isfinite(values)]

    def summary(self, measure: str) -> Summary:
        values = self.values(measure)
        quartiles = np.percentile(values, (25, 50, 75)) if values.size else np.full(3, math.nan)
        low, median, high = quartiles.tolist()
        return Summary(low, median, high, values.size)

    @property
    def plateau(self) -> CensoredData:
        """Epochs until a run left the flat plateau; to its end, censored, where it never did."""
        known = [run for run in self.results if np.isfinite(run.epochs).any()]
        left = [run.measures["left_plateau"] for run in known]
        stayed = [np.nanmax(run.epochs) for run, epoch in zip(known, left, strict=True) if not epoch >= 0]
        return CensoredData(uncensored=[epoch for epoch in left if epoch >= 0], right=stayed)

    def on_object(self, data_seed: int | None) -> Arm:
        """The runs on one of the objects alone."""
        return replace(self, runs=tuple(run for run in self.runs if run.data_seed == data_seed))

    def typical(self) -> list[FoundRun]:
        """Runs from the one of median loss outwards: successful ones first, then other results."""
        ordered = sorted(self.successes, key=lambda run: run.measures["best_val_loss"])
        middle = (len(ordered) - 1) // 2
        outwards = sorted(range(len(ordered)), key=lambda index: (abs(index - middle), index))
        return [ordered[i] for i in outwards] + [run for run in self.results if not run.succeeded]


def group(runs: Sequence[FoundRun]) -> list[Arm]:
    """Arms, by name and configuration, in order of first sight.

    Where one name stands for several configurations, each becomes an arm of its own, named by what was
    typed for it or, where that tells nothing, by the settings that differ.
    """
    by_name: dict[str, dict[frozenset[tuple[str, Any]], list[FoundRun]]] = {}
    for run in runs:
        variants = by_name.setdefault(run.arm, {})
        variants.setdefault(frozenset(run.settings.items()), []).append(run)
    arms = []
    for name, variants in by_name.items():
        if len(variants) == 2 and (unread := variants.pop(frozenset(), None)):
            # Stopped before its configuration was written; with one candidate there is no doubt.
            next(iter(variants.values())).extend(unread)
        names = _told_apart(name, [*variants.values()])
        arms += [_arm(label, members) for label, members in zip(names, variants.values(), strict=True)]
    return arms


def _arm(name: str, members: list[FoundRun]) -> Arm:
    """Of several runs of an object and seed the first with a result counts, else the first."""
    settings = next((run.settings for run in members if run.settings), {})
    drawn = {run.data_seed for run in members if run.settings}
    if len(drawn) == 1:  # a run that stopped before its configuration was written draws what the others do
        (only,) = drawn
        members = [run if run.settings else replace(run, data_seed=only) for run in members]
    kept: dict[tuple[int, bool, bool, int | str], FoundRun] = {}
    repeated = []
    for run in sorted(members, key=lambda run: (not run.has_result, run.name)):
        own = run.name if run.seed is None else run.seed
        key = (run.data_seed or 0, run.data_seed is None, run.seed is None, own)
        if kept.setdefault(key, run) is not run:
            repeated.append(run)
    return Arm(name, tuple(kept[key] for key in sorted(kept)), settings, tuple(repeated))


def _told_apart(name: str, variants: Sequence[list[FoundRun]]) -> list[str]:
    if len(variants) == 1:
        return [name]
    typed = [frozenset.intersection(*(run.overrides for run in members)) for members in variants]
    own = [typing - frozenset.intersection(*typed) for typing in typed]
    if len(set(own)) == len(own):
        labels = [" ".join(sorted(entry.lstrip("+") for entry in entries)) for entries in own]
    else:
        settings = [members[0].settings for members in variants]
        keys = differing({str(index): found for index, found in enumerate(settings)})
        labels = [" ".join(f"{key}={found[key]}" for key in keys if key in found) for found in settings]
    labels = [one_line(f"{name} {label}".strip(), 80) for label in labels]
    return [
        f"{label} ({index})" if labels.count(label) > 1 else label
        for index, label in enumerate(labels, start=1)
    ]

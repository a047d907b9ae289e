"""What the overlap of all patterns makes of a stitched object, as a run's settings say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le, Lt
from typing_extensions import Doc

from ptychofno.evaluation.overlap import Refinement


@dataclass
class NoRefinement:
    """The stitched object is the result."""

    rounds: ClassVar[int] = 0

    def __call__(self, *, measured: bool) -> None:
        return None


@dataclass
class OverlapRefinement:
    """Rounds of overlap from the stitched object; see ``physics.refine``."""

    rounds: Annotated[int, Ge(1), Le(100_000), Doc("rounds of overlap over all patterns, at most")] = 7
    probe: Annotated[
        Literal["auto", "fixed", "refined"], Doc("auto refines the probe of measured scans only")
    ] = "auto"
    probe_from: Annotated[int, Ge(1), Doc("the first round that refines the probe, too")] = 2
    positions: Annotated[
        bool, Doc("let scan positions move as their patterns ask, from the fourth round on")
    ] = False
    tolerance: Annotated[
        float, Ge(0), Lt(1), Doc("stop when a round lowers the error by less than this share")
    ] = 1e-3

    def __call__(self, *, measured: bool) -> Refinement:
        """For simulated data, whose probe is known, or measured ones."""
        of_probe = self.probe == "refined" or (self.probe == "auto" and measured)
        return Refinement(self.rounds, self.tolerance, self.probe_from if of_probe else None, self.positions)

"""``clip=adaptive_norm``: what it composes to, and what is refused."""

from __future__ import annotations

import pytest
from test_refusals import refusal

from ptychofno import build
from ptychofno.config import compose
from ptychofno.training import AdaptiveNormClip

SHARE = "expected a number >= 0 and <= 100"
STEPS = "expected an integer >= 1 and <= 100000"
REFUSED = {
    "clip.percentile=10": "clip.percentile: no such setting of the chosen clip; "
    "it belongs to clip=adaptive_norm",
    "clip=adaptive_norm clip.percentil=10": "clip.percentil: no such setting; did you mean clip.percentile?",
    "clip=adaptive_norm clip.value=1": "clip.value: no such setting of the chosen clip; "
    "it belongs to clip=norm, value, agc",
    "clip=adaptive_norm clip.percentile=101": f"clip.percentile=101: {SHARE}",
    "clip=adaptive_norm clip.percentile=-1": f"clip.percentile=-1: {SHARE}",
    "clip=adaptive_norm clip.window=0": f"clip.window=0: {STEPS}",
    "clip=adaptive_norm clip.window=2.5": f"clip.window=2.5: {STEPS}",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_refusals(overrides: str) -> None:
    assert refusal(*overrides.split()) == REFUSED[overrides]


def test_the_command_line_asks_for_it() -> None:
    cfg = compose(["clip=adaptive_norm", "clip.percentile=25", "clip.window=64"])
    one, other = (build._part(cfg, "clip") for _ in range(2))
    assert isinstance(one, AdaptiveNormClip) and (one.percentile, one.window) == (25.0, 64)
    assert one is not other  # each run has its own memory

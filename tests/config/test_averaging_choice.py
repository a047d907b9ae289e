"""The group ``averaging``: what it composes to, and what is refused."""

from __future__ import annotations

import pytest
from test_refusals import refusal

from ptychofno import build
from ptychofno.config import compose, schema, settings
from ptychofno.training import EmaAveraging, NoAveraging

DECAY = "expected a number > 0 and < 1"
REFUSED = {
    "averaging=emma": "averaging=emma: expected one of ema, none; did you mean ema?",
    "averaging.decay=0.9": "averaging.decay: no such setting of the chosen averaging; "
    "it belongs to averaging=ema",
    "averaging=ema averaging.deccay=0.9": "averaging.deccay: no such setting; did you mean averaging.decay?",
    "averaging=ema averaging.decay=1": f"averaging.decay=1: {DECAY}",
    "averaging=ema averaging.decay=0": f"averaging.decay=0: {DECAY}",
    "averaging=ema averaging.decay=slow": f"averaging.decay=slow: {DECAY}",
    "averaging=ema averaging.decay=null": f"averaging.decay=null: {DECAY}",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_refusals(overrides: str) -> None:
    assert refusal(*overrides.split()) == REFUSED[overrides]


def test_no_average_unless_it_is_asked_for() -> None:
    for chosen in ([], ["+arm=control"], ["averaging=none"]):
        cfg = compose(chosen)
        assert isinstance(settings(cfg).averaging, schema.NoAveraging)
        assert build._part(cfg, "averaging") == NoAveraging()


def test_the_command_line_asks_for_it() -> None:
    cfg = compose(["averaging=ema", "averaging.decay=0.99"])
    assert build._part(cfg, "averaging") == EmaAveraging(0.99)
    assert "averaging=ema" in cfg.run_dir and "averaging.decay=0.99" in cfg.run_dir

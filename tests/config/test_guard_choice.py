"""The group ``guard``: what it composes to, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_refusals import refusal

from ptychofno import build
from ptychofno.config import compose, schema, settings
from ptychofno.training import NoGuard, RollbackGuard

KNOWN = "no such setting of the chosen guard; it belongs to guard=rollback"
REFUSED = {
    "guard=rolback": "guard=rolback: expected one of none, rollback; did you mean rollback?",
    "guard.lr_factor=0.5": f"guard.lr_factor: {KNOWN}",
    "guard=rollback guard.lr_factr=0.5": "guard.lr_factr: no such setting; did you mean guard.lr_factor?",
    "guard=rollback guard.lr_factor=1": "guard.lr_factor=1: expected a number > 0 and < 1",
    "guard=rollback guard.lr_factor=0": "guard.lr_factor=0: expected a number > 0 and < 1",
    "guard=rollback guard.max_interventions=0": "guard.max_interventions=0: expected an integer >= 1",
    "guard=rollback guard.max_interventions=1.5": "guard.max_interventions=1.5: expected an integer >= 1",
    "guard=rollback guard.spike_factor=1": "guard.spike_factor=1: expected a number > 1",
    "guard=rollback guard.spike_factor=inf": "guard.spike_factor=inf: expected a finite number > 1",
    "guard=rollback guard.spike_window=2": "guard.spike_window=2: expected an integer >= 3 and <= 100000",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_refusals(overrides: str) -> None:
    assert refusal(*overrides.split()).startswith(REFUSED[overrides])


def test_no_guard_unless_it_is_asked_for() -> None:
    for chosen in ([], ["+arm=control"], ["+arm=stable", "guard=none"]):
        cfg = compose(chosen)
        assert isinstance(settings(cfg).guard, schema.NoGuard) and build.guard(cfg) == NoGuard()


def test_the_command_line_asks_for_it() -> None:
    cfg = compose(["+arm=stable", "guard=rollback", "guard.lr_factor=0.2", "guard.max_interventions=5"])
    assert build.guard(cfg) == RollbackGuard(0.2, 5, spike_factor=20.0, spike_window=100)
    assert "guard=rollback" in cfg.run_dir and "guard.lr_factor=0.2" in cfg.run_dir


def test_an_arm_or_a_study_may_ask_for_it(tmp_path: Path) -> None:
    for group, base in (("arm", "stable"), ("study", "stage_a")):
        (tmp_path / group).mkdir()
        content = f"# @package _global_\ndefaults: [{base}, override /guard: rollback]\n"
        (tmp_path / group / "guarded.yaml").write_text(content)
        asked = compose([f"+{group}=guarded"], config_dir=str(tmp_path))
        assert build.guard(asked) == RollbackGuard(0.5, 3, spike_factor=20.0, spike_window=100)
        told_not_to = compose([f"+{group}=guarded", "guard=none"], config_dir=str(tmp_path))
        assert build.guard(told_not_to) == NoGuard()

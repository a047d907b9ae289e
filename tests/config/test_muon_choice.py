"""``optimizer=muon``: what it composes to, and what is refused."""

from __future__ import annotations

import pytest
import torch
from test_refusals import refusal
from torch import nn

from ptychofno import build
from ptychofno.config import compose
from ptychofno.training import Muon

SHARE = "expected a number >= 0 and < 1"
REFUSED = {
    "optimizer=muonn": "optimizer=muonn: expected one of adam, adamw, muon, sgd; did you mean muon?",
    "optimizer=muon optimizer.momentun=0.9": "optimizer.momentun: no such setting; "
    "did you mean optimizer.momentum?",
    "optimizer=muon optimizer.fused=true": "optimizer.fused: no such setting of the chosen optimizer; "
    "it belongs to optimizer=adam, adamw",
    "optimizer=muon optimizer.lr=0": "optimizer.lr=0: expected a number > 0",
    "optimizer=muon optimizer.momentum=1": f"optimizer.momentum=1: {SHARE}",
    "optimizer=muon optimizer.betas=[0.9,1]": f"optimizer.betas[1]=1: {SHARE}",
    "optimizer=muon optimizer.weight_decay=-1": "optimizer.weight_decay=-1: expected a number >= 0",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_refusals(overrides: str) -> None:
    assert refusal(*overrides.split()) == REFUSED[overrides]


def test_the_command_line_asks_for_it() -> None:
    cfg = compose(["optimizer=muon", "optimizer.lr=2e-3", "optimizer.momentum=0.9"])
    optimizer = build._part(cfg, "optimizer")([nn.Parameter(torch.zeros(2, 2)) for _ in range(3)])
    assert isinstance(optimizer, Muon)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 1]
    for group in optimizer.param_groups:
        assert (group["lr"], group["momentum"], group["weight_decay"]) == (2e-3, 0.9, 0.0)
        assert group["betas"] == (0.9, 0.999)

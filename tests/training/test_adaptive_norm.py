"""Clipping at a percentile of the norms so far, against numpy, and that a run remembers them."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_fit import StopAfter, run, same
from test_guard import EPOCH, GUARD, Scale
from torch import Tensor, nn

from ptychofno import artifacts
from ptychofno.training import AdaptiveNormClip, Interrupted, Outcome, PhysicsSupervised, StopRequest
from ptychofno.training.clipping import total_gradient_norm


@given(
    norms=st.lists(st.floats(2**-10, 1024, width=32), min_size=1, max_size=30),
    percentile=st.one_of(st.floats(0, 100), st.sampled_from([0.0, 10.0, 50.0, 100.0])),
    window=st.integers(1, 12),
)
def test_the_limit_is_numpys_percentile_of_the_last_norms(
    norms: list[float], percentile: float, window: int
) -> None:
    clip = AdaptiveNormClip(percentile, window)
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(1))]
    direction = [torch.tensor([2.0, 0, 1]) / 3, torch.tensor([[0.0, 2], [0, 0]]) / 3]
    for step, norm in enumerate(norms):
        for parameter, part in zip(parameters, direction, strict=False):  # the last one has no gradient
            parameter.grad = norm * part
        limit = np.percentile(norms[max(0, step + 1 - window) : step + 1], percentile)
        found = clip(parameters, {}, torch.tensor(norm))
        assert float(found) == pytest.approx(min(norm, limit), rel=1e-5)
        assert float(total_gradient_norm(parameters)) == pytest.approx(min(norm, limit), rel=1e-5)
        for parameter, part in zip(parameters, direction, strict=False):
            torch.testing.assert_close(parameter.grad, min(norm, limit) * part, rtol=1e-5, atol=0)


def test_no_gradient_is_left_as_none_at_all() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.zeros(2)
    clip = AdaptiveNormClip(10.0, 4)
    assert float(clip([parameter], {}, torch.tensor(0.0))) == 0 and torch.equal(
        parameter.grad, torch.zeros(2)
    )


def clipped_norms(run_dir: Path) -> tuple[list[float], list[float]]:
    with (run_dir / artifacts.GRAD_NORMS).open() as file:
        rows = list(csv.DictReader(file))
    return [float(row["grad_norm"]) for row in rows], [float(row["grad_norm_clipped"]) for row in rows]


def test_a_run_is_clipped_by_its_own_history(scan: dict[str, Tensor], tmp_path: Path) -> None:
    run(scan, tmp_path, clip=AdaptiveNormClip(30.0, 5))
    norms, clipped = clipped_norms(tmp_path)
    limits = [np.percentile(norms[max(0, step - 4) : step + 1], 30) for step in range(len(norms))]
    assert clipped == pytest.approx(np.minimum(norms, limits), rel=1e-5)
    assert sum(after < before for before, after in zip(norms, clipped, strict=True)) > len(norms) / 3


# --- the same bits ---------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 4, EPOCH, EPOCH + 3])
def test_a_stopped_run_goes_on_to_the_same_bits(steps: int, scan: dict[str, Tensor], tmp_path: Path) -> None:
    def clipped(name: str, stop: StopRequest | None = None, *callbacks: L.Callback) -> Outcome:
        return run(scan, tmp_path / name, clip=AdaptiveNormClip(30.0, 8), stop=stop, callbacks=callbacks)

    whole = clipped("whole")
    stop = StopRequest()
    with pytest.raises(Interrupted):
        clipped("cut", stop, StopAfter(stop, steps))
    assert same(whole, clipped("cut"))
    texts = [(tmp_path / name / artifacts.GRAD_NORMS).read_text() for name in ("whole", "cut")]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("late", [False, True])
def test_a_guard_forgets_the_norms_of_what_it_takes_back(
    late: bool, scan: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PhysicsSupervised, "_reads_late", lambda *_: late)
    fused = partial(torch.optim.Adam, lr=1e-3, fused=True)
    outcome = run(
        scan,
        tmp_path,
        clip=AdaptiveNormClip(30.0, 8),
        guard=GUARD,
        optimizer=fused,
        callbacks=[Scale(EPOCH + 2)],
    )
    assert [entry["epoch"] for entry in outcome.interventions] == [2]
    norms, clipped = clipped_norms(tmp_path)
    good = norms[:EPOCH] + norms[-EPOCH:]  # the second epoch is taken back
    limits = [np.percentile(good[max(0, step - 7) : step + 1], 30) for step in range(len(good))]
    assert clipped[-EPOCH:] == pytest.approx(np.minimum(good, limits)[-EPOCH:], rel=1e-5)


def test_all_that_is_remembered_travels_with_a_checkpoint() -> None:
    one, other = AdaptiveNormClip(30.0, 4), AdaptiveNormClip(30.0, 4)
    parameters = [nn.Parameter(torch.zeros(1))]
    parameters[0].grad = torch.ones(1)
    for norm in (3.0, 1.0, 4.0, 1.5, 9.0):
        one(parameters, {}, torch.tensor(norm))
    other.load_state_dict(one.state_dict())
    for norm in (2.0, 6.0):
        found = [clip(parameters, {}, torch.tensor(norm)) for clip in (one, other)]
        assert torch.equal(*found)

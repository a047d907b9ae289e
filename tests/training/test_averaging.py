"""The moving average of the weights against its closed form, and that it is what is judged and kept."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_fit import StopAfter, run, same
from test_guard import EPOCH, GUARD, Flatten, Scale
from torch import Tensor, nn

from ptychofno.runs import artifacts
from ptychofno.training import EmaAveraging, Interrupted, NoAveraging, PhysicsSupervised, StopRequest
from ptychofno.training.averaging import WeightAverage

EMA = EmaAveraging(0.9)


def weights(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Follow(L.Callback):
    """Keeps weights and averages of the start and after every step, averages also as an epoch starts."""

    def __init__(self) -> None:
        self.weights: list[list[Tensor]] = []
        self.averages: list[list[Tensor]] = []
        self.starts: list[list[Tensor]] = []
        self.counts: list[int] = []

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._keep(module)

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, PhysicsSupervised) and module.average is not None
        self.starts.append(weights(module.average.network))
        self.counts.append(module.average.steps)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._keep(module)

    def _keep(self, module: L.LightningModule) -> None:
        assert isinstance(module, PhysicsSupervised)
        self.weights.append(weights(module.generator))
        self.averages.append(weights(module.judged))


# --- what it is ------------------------------------------------------------------------------


@given(
    values=st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=40),
    decay=st.sampled_from([0.05, 0.5, 0.9, 0.999]),
)
def test_a_sequence_is_averaged_with_the_shares_of_the_definition(values: list[float], decay: float) -> None:
    """Weights w_0 (untrained), w_1, …: w_s has the share (1 - d_s) of what the later steps leave."""
    network = nn.Linear(1, 1, bias=False).double()
    average = WeightAverage(network, decay)
    sequence = [network.weight.item(), *values]
    for value in values:
        nn.init.constant_(network.weight, value)
        average.update(network)
    decays = np.array([min(decay, (1 + t) / (10 + t)) for t in range(len(values))])
    left = np.append(np.cumprod(decays[::-1])[::-1], 1.0)
    shares = np.append(1.0, 1 - decays) * left
    assert shares.sum() == pytest.approx(1)
    assert average.network.weight.item() == pytest.approx(float(shares @ sequence), abs=1e-12)
    assert average.steps == len(values)


def test_the_untrained_weights_are_forgotten_early() -> None:
    """Their share falls as 1/t⁹ in the warm-up, instead of to 0.998⁵⁰ = 0.9."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    average = WeightAverage(network, 0.998)
    nn.init.constant_(network.weight, 0.0)
    for _ in range(50):
        average.update(network)
    assert 0 < average.network.weight.item() < 1e-8


def test_the_state_is_whole() -> None:
    network = nn.Linear(2, 2)
    one, other = WeightAverage(network, 0.9), WeightAverage(nn.Linear(2, 2), 0.9)
    for _ in range(3):
        one.update(network)
    other.load_state_dict(one.state_dict())
    nn.init.zeros_(network.weight)
    for average in (one, other):
        average.update(network)
    assert other.steps == 4 and equal(weights(one.network), weights(other.network))


def test_a_run_averages_after_every_step(scan: dict[str, Tensor], tmp_path: Path) -> None:
    follow = Follow()
    outcome = run(scan, tmp_path, averaging=EMA, epochs=2, callbacks=[follow])
    expected = follow.weights[0]
    for t, now in enumerate(follow.weights[1:]):
        decay = min(0.9, (1 + t) / (10 + t))
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, now, strict=True)]
        torch.testing.assert_close(follow.averages[t + 1], expected, rtol=1e-4, atol=1e-6)
    names = [name for name in outcome.last_weights if not name.startswith("inputs.")]
    assert equal([outcome.last_weights[name] for name in names], follow.averages[-1])


# --- what it is for --------------------------------------------------------------------------


def test_averages_are_judged_and_kept_while_the_weights_go_their_way(
    scan: dict[str, Tensor], tmp_path: Path
) -> None:
    class Judge(L.Callback):
        losses: list[float] = []

        def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
            assert isinstance(module, PhysicsSupervised)
            state = {name: value.clone() for name, value in module.generator.state_dict().items()}
            module.generator.load_state_dict(module.judged.state_dict())
            with torch.no_grad():
                self.losses.append(float(module.misfit(scan["amplitude"][::3])))
            module.generator.load_state_dict(state)

    averaged, bare = Follow(), Follow()
    outcome = run(scan, tmp_path / "ema", averaging=EMA, callbacks=[Judge(), averaged], keep_every=1)
    unjudged = run(scan, tmp_path / "ema again", averaging=EMA)
    alone = run(scan, tmp_path / "none", averaging=NoAveraging(), callbacks=[StepWeights(bare)])
    assert same(outcome, unjudged)
    assert outcome.epochs["val_loss"] == pytest.approx(Judge.losses, rel=1e-5)
    for one, other in zip(averaged.weights, bare.weights, strict=True):
        assert equal(one, other)
    for key in ("train_loss", "grad_norm_max", "learning_rate", "update_ratio_local"):
        assert outcome.epochs[key] == alone.epochs[key]
    for key in ("val_loss", "pred_contrast", "pred_amp_std"):
        assert outcome.epochs[key] != alone.epochs[key]
    for epoch in (1, 2, 3):
        kept = torch.load(tmp_path / "ema" / artifacts.epoch_weights(epoch), weights_only=True)
        named = [kept[name] for name in kept if not name.startswith("inputs.")]
        assert equal(named, averaged.averages[epoch * EPOCH])
    for file, found in (
        (artifacts.BEST_WEIGHTS, outcome.best_weights),
        (artifacts.LAST_WEIGHTS, outcome.last_weights),
    ):
        written = torch.load(tmp_path / "ema" / file, weights_only=True)
        assert list(written) == list(alone.best_weights) == list(found)
        assert all(torch.equal(written[name], found[name]) for name in found)
    best = torch.load(tmp_path / "ema" / artifacts.epoch_weights(outcome.best_epoch), weights_only=True)
    assert all(torch.equal(best[name], value) for name, value in outcome.best_weights.items())


class StepWeights(L.Callback):
    """Lets ``follow`` keep what there is without an average."""

    def __init__(self, follow: Follow) -> None:
        self.follow = follow

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.follow.on_train_start(trainer, module)

    def on_train_batch_end(self, *args: Any) -> None:
        self.follow.on_train_batch_end(*args)


# --- the same bits ---------------------------------------------------------------------------


def test_a_stopped_run_goes_on_to_the_same_bits(scan: dict[str, Tensor], tmp_path: Path) -> None:
    whole = run(scan, tmp_path / "whole", averaging=EMA)
    for steps in (2, EPOCH - 1):
        cut, stop = tmp_path / str(steps), StopRequest()
        with pytest.raises(Interrupted):
            run(scan, cut, averaging=EMA, stop=stop, callbacks=[StopAfter(stop, steps)])
        assert same(whole, run(scan, cut, averaging=EMA))


def test_a_guard_takes_the_average_back_too(scan: dict[str, Tensor], tmp_path: Path) -> None:
    follow = Follow()
    outcome = run(
        scan, tmp_path, averaging=EMA, guard=GUARD, epochs=4, callbacks=[follow, Scale(EPOCH + 2), Flatten(3)]
    )
    assert [entry["epoch"] for entry in outcome.interventions] == [2, 3]
    one, second, third, fourth = follow.starts
    assert equal(second, third) and equal(second, fourth) and not equal(one, second)
    assert follow.counts == [0, EPOCH, EPOCH, EPOCH]


@pytest.mark.parametrize(("late", "steps"), [(False, EPOCH + 4), (True, 2 * EPOCH + 2)])
def test_so_does_a_guarded_run_that_was_stopped(
    late: bool, steps: int, scan: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PhysicsSupervised, "_reads_late", lambda *_: late)
    fused = partial(torch.optim.Adam, lr=1e-3, fused=True)
    guarded = partial(run, scan, averaging=EMA, guard=GUARD, epochs=4, optimizer=fused)
    whole = guarded(tmp_path / "whole", callbacks=[Scale(EPOCH + 2)])
    assert [entry["epoch"] for entry in whole.interventions] == [2]
    stop = StopRequest()
    with pytest.raises(Interrupted):
        guarded(tmp_path / "cut", stop=stop, callbacks=[Scale(EPOCH + 2), StopAfter(stop, steps)])
    assert same(whole, guarded(tmp_path / "cut", callbacks=[Scale(EPOCH + 2)]))

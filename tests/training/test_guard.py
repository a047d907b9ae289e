"""A guarded run goes back to its last good state and on from there: when, to what, and how often."""

from __future__ import annotations

import math
import signal
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_fit import PLATEAU, WARM_UP, Freeze, StopAfter, run, same, warmup_cosine
from torch import Tensor

from ptychofno.runs import artifacts
from ptychofno.training import (
    Interrupted,
    Muon,
    Outcome,
    PhysicsSupervised,
    RollbackGuard,
    StopRequest,
    Watch,
    schedules,
    sgd,
)
from ptychofno.training.guard import Rollback
from ptychofno.training.schedules import Schedule

EPOCH = 6  # steps
GUARD = RollbackGuard(lr_factor=0.3, max_interventions=3, spike_factor=50.0, spike_window=5)
OPTIMIZERS = {
    "adam": partial(torch.optim.Adam, lr=1e-3, fused=True),
    "adamw": partial(torch.optim.AdamW, lr=1e-3, fused=True),
    "sgd": partial(sgd, lr=1e-3, momentum=0.9, weight_decay=0.0),
    "adam in a loop": partial(torch.optim.Adam, lr=1e-3, fused=False),
    "muon": partial(Muon, lr=1e-3),
}


class Scale(L.Callback):
    """Multiplies the gradient of the steps ``at`` by ``factor``."""

    def __init__(self, *at: int, factor: float = math.nan) -> None:
        self.at, self.factor = at, factor

    def on_after_backward(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.global_step in self.at:
            for parameter in module.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(self.factor)


class Flatten(L.Callback):
    """Makes the network predict nothing from the validation of the epochs ``at`` on."""

    def __init__(self, *at: int) -> None:
        self.at = at

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.current_epoch + 1 in self.at:
            for parameter in module.parameters():
                parameter.data.zero_()


class Witness(L.Callback):
    """Keeps weights and optimizer state of the start of every epoch, and the weights of its end."""

    def __init__(self) -> None:
        self.starts: dict[int, list[Tensor]] = {}
        self.ends: dict[int, list[Tensor]] = {}

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.starts[trainer.current_epoch + 1] = [*self._weights(module), *self._memory(trainer)]

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.ends[trainer.current_epoch + 1] = self._weights(module)

    def _weights(self, module: L.LightningModule) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in module.parameters()]

    def _memory(self, trainer: L.Trainer) -> list[Tensor]:
        states = trainer.optimizers[0].state.values()
        return [value.clone() for state in states for value in state.values() if value is not None]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def entries(outcome: Outcome, key: str) -> list[Any]:
    return [entry[key] for entry in outcome.interventions]


# --- to what ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("late", "optimizer"),
    # Only a fused optimizer is looked at late.
    [(False, "adam in a loop"), (False, "muon"), (True, "adam"), (True, "sgd")],
)
def test_the_next_epoch_starts_from_the_last_good_state(
    late: bool, optimizer: str, scan: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PhysicsSupervised, "_reads_late", lambda *_: late)
    witness = Witness()
    outcome = run(
        scan,
        tmp_path,
        guard=GUARD,
        epochs=5,
        optimizer=OPTIMIZERS[optimizer],
        callbacks=[Scale(EPOCH + 2, 2 * EPOCH), witness],  # in the second epoch, and at once in the third
    )
    assert outcome.diverged is None and len(outcome.epochs["epoch"]) == 5
    assert entries(outcome, "epoch") == [2, 3] and entries(outcome, "step") == [EPOCH + 3, 2 * EPOCH + 1]
    assert entries(outcome, "reason") == ["not finite: gradient norm"] * 2
    assert equal(witness.starts[2], witness.starts[3]) and equal(witness.starts[2], witness.starts[4])
    assert not equal(witness.starts[2], witness.starts[5])
    assert not equal(witness.ends[1], witness.ends[2])  # two of its steps were taken
    assert equal(witness.ends[1], witness.ends[3])  # none
    assert outcome.epochs["interventions"] == [0, 1, 2, 2, 2]
    assert artifacts.read_json(tmp_path / artifacts.HISTORY)["grad_norm_max"][2] is None


def test_from_the_first_epoch_it_goes_back_to_the_beginning(scan: dict[str, Tensor], tmp_path: Path) -> None:
    witness = Witness()
    run(scan, tmp_path, guard=GUARD, callbacks=[Scale(3), witness])
    assert equal(witness.starts[1], witness.starts[2])


def test_looking_late_makes_no_difference(
    scan: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def guarded(late: bool) -> Outcome:
        monkeypatch.setattr(PhysicsSupervised, "_reads_late", lambda *_: late)
        return run(
            scan,
            tmp_path / str(late),
            guard=GUARD,
            optimizer=OPTIMIZERS["adamw"],
            callbacks=[Scale(EPOCH + 2)],
        )

    outcomes = [guarded(late) for late in (False, True)]
    assert same(*outcomes) and outcomes[0].interventions == outcomes[1].interventions
    assert len(outcomes[0].grad_norms) == 2 * EPOCH + 3


def test_the_learning_rate_is_the_scheduled_one_times_the_factor(
    scan: dict[str, Tensor], tmp_path: Path
) -> None:
    schedule = Schedule(partial(schedules.warmup_cosine, warmup_epochs=3, min_ratio=0.05))
    outcome = run(
        scan, tmp_path, guard=GUARD, schedule=schedule, epochs=6, callbacks=[Scale(EPOCH, 3 * EPOCH)]
    )
    rates = [1e-3 * f * warmup_cosine(e, 6, 3, 0.05) for e, f in enumerate([1, 1, 0.3, 0.3, 0.09, 0.09])]
    assert outcome.epochs["learning_rate"] == pytest.approx(rates)
    assert entries(outcome, "learning_rate_factor") == pytest.approx([0.3, 0.09])


def test_so_it_is_under_plateau_down_to_its_floor(scan: dict[str, Tensor], tmp_path: Path) -> None:
    schedule = Schedule(partial(schedules.plateau, factor=0.5, patience=1, min_lr=2e-4))
    outcome = run(
        scan, tmp_path, guard=GUARD, schedule=schedule, epochs=8, callbacks=[Freeze(), Scale(EPOCH)]
    )
    factors = [1, 1, 0.3 * 1, 0.3 * 0.5, 0.3 * 0.5, 0.3 * 0.25, 0.3 * 0.25, 0.3 * 0.2]
    assert outcome.epochs["learning_rate"] == pytest.approx([1e-3 * factor for factor in factors])


# --- when ------------------------------------------------------------------------------------


def test_a_spike_of_the_gradient(scan: dict[str, Tensor], tmp_path: Path) -> None:
    at = 2 * EPOCH + 1
    spiked = run(scan, tmp_path / "spiked", guard=GUARD, callbacks=[Scale(at, factor=1e4)], epochs=4)
    assert entries(spiked, "epoch") == [3] and entries(spiked, "step") == [at + 1]
    assert spiked.interventions[0]["reason"].startswith("spike: gradient norm ")
    early = RollbackGuard(0.3, 3, spike_factor=50.0, spike_window=at + 1)
    outcome = run(scan, tmp_path / "early", guard=early, callbacks=[Scale(at, factor=1e4)], epochs=4)
    assert outcome.interventions == []  # too few steps to compare it with


def test_a_learning_rate_that_blows_up_is_survived(scan: dict[str, Tensor], tmp_path: Path) -> None:
    class BlowUp(L.Callback):
        def on_train_batch_start(
            self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
        ) -> None:
            rate = 1e3 if trainer.global_step == EPOCH + 1 else None
            for group in trainer.optimizers[0].param_groups:
                group["lr"] = rate or 1e-3

    guarded = run(scan, tmp_path / "guarded", guard=GUARD, callbacks=[BlowUp()], epochs=4, blocks=2)
    bare = run(scan, tmp_path / "bare", callbacks=[BlowUp()], epochs=4, blocks=2)
    assert entries(guarded, "epoch") == [2]
    assert guarded.epochs["val_loss"][-1] < 0.3 < bare.epochs["val_loss"][-1] or bare.diverged


def test_falling_back_to_the_flat_object(scan: dict[str, Tensor], tmp_path: Path) -> None:
    """Without any object the loss is 1, with any it is below 0.3."""
    outcome = run(scan, tmp_path / "left", guard=GUARD, callbacks=[Flatten(2)], epochs=4, blocks=2)
    assert entries(outcome, "epoch") == [2] and entries(outcome, "step") == [2 * EPOCH]
    assert outcome.interventions[0]["reason"].startswith("fall-back: validation loss 0.97")
    assert outcome.epochs["val_loss"][1] > 0.9 > 0.3 > outcome.epochs["val_loss"][-1]
    never_left = run(scan, tmp_path / "never", guard=GUARD, callbacks=[Flatten(1, 2, 3)], epochs=4)
    assert never_left.interventions == []


def test_a_validation_loss_that_is_not_finite(scan: dict[str, Tensor], tmp_path: Path) -> None:
    class Break(L.Callback):
        def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
            if trainer.current_epoch == 1:
                for parameter in module.parameters():
                    parameter.data.fill_(math.nan)

    outcome = run(scan, tmp_path, guard=GUARD, callbacks=[Break()])
    assert entries(outcome, "reason") == ["not finite: validation loss"] and outcome.diverged is None
    assert math.isnan(outcome.epochs["val_loss"][1]) and math.isfinite(outcome.epochs["val_loss"][2])


def watch(window: int, factor: float, epochs: list[list[float]], name: str) -> list[dict[str, Any]]:
    """What a guard makes of epochs of steps whose loss or gradient norm is given."""
    found = Rollback(RollbackGuard(0.5, 1000, factor, window), 1.0)
    step = 0
    for epoch, values in enumerate(epochs, start=1):
        found._armed = True
        rows = []
        for value in values:
            step += 1
            rows.append([epoch, step, value, 1.0, 1.0] if name == "loss" else [epoch, step, 1.0, value, 1.0])
        found.judge(rows, 0.5)
    return found.interventions


@pytest.mark.parametrize("name", ["loss", "gradient norm"])
@given(
    epochs=st.lists(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), min_size=1, max_size=6),
    window=st.integers(3, 8),
)
def test_a_spike_is_what_the_definition_says(name: str, epochs: list[list[float]], window: int) -> None:
    good: list[float] = []
    expected, step = [], 0
    for epoch in epochs:
        seen = list(good)
        spike = None
        for value in epoch:
            step += 1
            if spike is None and len(seen) >= window and value > 5.0 * np.median(seen[-window:]):
                spike = step
            seen.append(value)
        if spike is None:
            good = seen
        else:
            expected.append(spike)
    found = watch(window, 5.0, epochs, name)
    assert [entry["step"] for entry in found] == expected
    assert all(entry["reason"].startswith(f"spike: {name} ") for entry in found)


# --- how often -------------------------------------------------------------------------------


def test_after_the_last_intervention_a_run_takes_its_course(scan: dict[str, Tensor], tmp_path: Path) -> None:
    most = 2
    guard = RollbackGuard(0.3, most, spike_factor=50.0, spike_window=5)
    broken = run(scan, tmp_path / "broken", guard=guard, callbacks=[Scale(1, EPOCH, 2 * EPOCH)], epochs=5)
    assert broken.diverged == f"gradient norm is not finite in epoch {most + 1}"
    assert entries(broken, "epoch") == list(range(1, most + 1))
    assert broken.epochs["interventions"] == list(range(1, most + 1))
    flat = run(scan, tmp_path / "flat", guard=guard, callbacks=[Flatten(2, 3, 4)], epochs=5)
    assert entries(flat, "epoch") == list(range(2, most + 2))
    assert flat.epochs["val_loss"][-1] > 0.9


def test_nothing_goes_on_from_the_last_epoch(scan: dict[str, Tensor], tmp_path: Path) -> None:
    broken = run(scan, tmp_path / "broken", guard=GUARD, callbacks=[Scale(2 * EPOCH)], epochs=3)
    assert broken.diverged == "gradient norm is not finite in epoch 3" and broken.interventions == []
    flat = run(scan, tmp_path / "flat", guard=GUARD, callbacks=[Flatten(3)], epochs=3)
    assert flat.interventions == [] and flat.epochs["val_loss"][-1] > 0.9


def test_a_guard_with_nothing_to_do_changes_nothing(scan: dict[str, Tensor], tmp_path: Path) -> None:
    guarded = run(scan, tmp_path / "guarded", guard=GUARD)
    bare = run(scan, tmp_path / "bare")
    assert same(guarded, bare) and bare.epochs["interventions"] == [0, 0, 0] and bare.interventions == []
    files = [(tmp_path / name / artifacts.GRAD_NORMS).read_text() for name in ("guarded", "bare")]
    assert files[0] == files[1]


# --- the same bits ---------------------------------------------------------------------------


# A step breaks in the second epoch and another is a spike in the fourth.
@pytest.mark.parametrize(
    ("late", "schedule", "steps"),
    [(False, PLATEAU, EPOCH + 4), (True, WARM_UP, 2 * EPOCH), (True, WARM_UP, 4 * EPOCH + 4)],
    ids=["within an epoch", "after a return", "after both"],
)
def test_a_stopped_run_goes_on_to_the_same_bits(
    late: bool,
    schedule: Schedule,
    steps: int,
    scan: dict[str, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PhysicsSupervised, "_reads_late", lambda *_: late)
    trouble = [Scale(EPOCH + 2), Scale(3 * EPOCH + 2, factor=1e4)]
    guarded = partial(run, scan, guard=GUARD, schedule=schedule, optimizer=OPTIMIZERS["adam"], epochs=6)
    whole = guarded(tmp_path / "whole", callbacks=trouble)
    assert entries(whole, "epoch") == [2, 4]
    stop = StopRequest()
    with pytest.raises(Interrupted):
        guarded(tmp_path / "cut", stop=stop, callbacks=[*trouble, StopAfter(stop, steps)])
    resumed = guarded(tmp_path / "cut", callbacks=trouble)
    assert same(whole, resumed) and whole.interventions == resumed.interventions
    texts = [(tmp_path / name / artifacts.GRAD_NORMS).read_text() for name in ("whole", "cut")]
    assert texts[0] == texts[1]


class StopInValidation(L.Callback):
    """Asks to stop while ``epoch`` is validated."""

    def __init__(self, stop: StopRequest, epoch: int) -> None:
        self.stop, self.epoch = stop, epoch

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.current_epoch + 1 == self.epoch:
            self.stop.received = signal.SIGTERM


def test_a_stop_before_a_fall_back_and_between_notice_and_return(
    scan: dict[str, Tensor], tmp_path: Path
) -> None:
    guarded = partial(run, scan, guard=GUARD)
    whole = guarded(tmp_path / "whole", callbacks=[Flatten(2)])
    for epoch in (1, 2):
        cut, stop = tmp_path / str(epoch), StopRequest()
        with pytest.raises(Interrupted):
            guarded(cut, stop=stop, callbacks=[Flatten(2), StopInValidation(stop, epoch)])
        resumed = guarded(cut, callbacks=[Flatten(2)])
        assert same(whole, resumed) and resumed.interventions == whole.interventions != []


def test_a_checkpoint_from_before_there_were_guards(scan: dict[str, Tensor], tmp_path: Path) -> None:
    stop = StopRequest()
    with pytest.raises(Interrupted):
        run(scan, tmp_path, stop=stop, callbacks=[StopAfter(stop, EPOCH + 2)])
    file = tmp_path / artifacts.RESUME_CHECKPOINT
    checkpoint = torch.load(file, weights_only=True)
    del checkpoint["callbacks"]["History"]["epochs"]["interventions"]
    torch.save(checkpoint, file)
    assert run(scan, tmp_path).epochs["interventions"] == [None, 0, 0]


def test_each_intervention_is_one_line_of_news(scan: dict[str, Tensor], tmp_path: Path) -> None:
    class Listen(L.Callback):
        heard: list[str | None] = []

        def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
            (watch,) = (c for c in trainer.callbacks if isinstance(c, Watch))  # type: ignore[attr-defined]
            self.heard.append(watch.news)

    run(scan, tmp_path, guard=GUARD, callbacks=[Scale(EPOCH), Listen()], epochs=3)
    line = Listen.heard[1]
    assert Listen.heard == [None, line, None] and line is not None and "\n" not in line
    assert line.startswith("epoch 2, step 7: not finite: gradient norm; back to the last good state")
    assert "learning rate times 0.3 (intervention 1 of 3)" in line

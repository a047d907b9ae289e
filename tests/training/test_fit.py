"""Whole runs through a real trainer: learning rates, records, stops, resumption, determinism."""

from __future__ import annotations

import csv
import math
import os
import signal
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ptychofno import models, physics
from ptychofno.runs import artifacts
from ptychofno.training import schedules
from ptychofno.training.batches import ResidentBatches, Thinning
from ptychofno.training.clipping import AdaptiveClip, NoClip, NormClip, ValueClip
from ptychofno.training.fit import Outcome, ResidentData, fit
from ptychofno.training.history import KEYS, ValidationSimilarity
from ptychofno.training.interruption import Interrupted, StopRequest
from ptychofno.training.losses import MAELoss
from ptychofno.training.module import PhysicsSupervised
from ptychofno.training.muon import Muon
from ptychofno.training.numerics import reproducible
from ptychofno.training.optimizers import sgd
from ptychofno.training.schedules import Schedule, build_warmup_cosine_scheduler

FLAT = 0.25
WARM_UP = Schedule(partial(schedules.warmup_cosine, warmup_epochs=1, min_ratio=0.05))
PLATEAU = Schedule(partial(schedules.plateau, factor=0.5, patience=0, min_lr=0.0))
MODEL: dict[str, Any] = {
    "_target_": "ptychofno.models.HybridUNOGenerator",
    "fno_blocks": 1,
    "hidden_channels": 4,
    "modes": 3,
    "block": {"_target_": "ptychofno.models.PtychoBlock"},
    "inputs": {"_target_": "ptychofno.models.BackprojectionInput", "epsilon": 0.01},
}


def run(
    scan: dict[str, Tensor],
    run_dir: Path,
    *,
    schedule: Schedule = WARM_UP,
    clip: Any = NormClip(1.0),
    optimizer: Any = partial(torch.optim.Adam, lr=1e-3),
    epochs: int = 3,
    seed: int = 0,
    stop: StopRequest | None = None,
    callbacks: Sequence[L.Callback] = (),
    enable_checkpointing: bool = True,
    amplitude: Tensor | None = None,
    flat_baseline: float = 1.0,
    keep_every: int | None = None,
    thin: Thinning | None = None,
    blocks: int = 1,
) -> Outcome:
    run_dir.mkdir(parents=True, exist_ok=True)
    amplitude = scan["amplitude"] if amplitude is None else amplitude
    with reproducible(seed, 1):
        network = models.build_generator(
            {**MODEL, "fno_blocks": blocks},
            size=16,
            patches=1,
            probe=scan["probe"],
            rms_amplitude=float(scan["amplitude"].square().mean().sqrt()),
            back_project=physics.back_projection,
            project=physics.error_reduction,
        )
        loss = MAELoss(float(scan["amplitude"].mean()))
        module = PhysicsSupervised(network, scan["probe"], loss, optimizer, schedule, clip, epochs)
        return fit(
            module,
            ResidentData(amplitude, scan["amplitude"][::3], 16, drop_last=False, seed=seed, thin=thin),
            run_dir,
            accelerator="cpu",
            precision="32-true",
            stop=stop or StopRequest(),
            enable_checkpointing=enable_checkpointing,
            flat_baseline=flat_baseline,
            keep_every=keep_every,
            callbacks=callbacks,
        )


def same(one: Outcome, other: Outcome) -> bool:
    histories = all(one.epochs[key] == other.epochs[key] for key in KEYS if key != "seconds")
    weights = all(torch.equal(value, other.last_weights[name]) for name, value in one.last_weights.items())
    best = all(torch.equal(value, other.best_weights[name]) for name, value in one.best_weights.items())
    return histories and weights and best and one.best_epoch == other.best_epoch


# --- learning rates --------------------------------------------------------------------------


def warmup_cosine(epoch: int, total: int, warmup: int, ratio: float) -> float:
    if epoch < warmup:
        return 0.1 + 0.9 * epoch / warmup
    return ratio + (1 - ratio) * (1 + math.cos(math.pi * (epoch - warmup) / (total - warmup))) / 2


@pytest.mark.parametrize(
    ("schedule", "closed_form"),
    [
        (Schedule(partial(schedules.exponential, gamma=0.95)), lambda e: 0.95**e),
        (WARM_UP, lambda e: warmup_cosine(e, 4, 1, 0.05)),
    ],
)
def test_every_epoch_trains_at_the_closed_forms_learning_rate(
    schedule: Schedule, closed_form: Any, scan: dict[str, Tensor], tmp_path: Path
) -> None:
    outcome = run(scan, tmp_path, schedule=schedule, epochs=4)
    assert outcome.epochs["learning_rate"] == pytest.approx([1e-3 * closed_form(e) for e in range(4)])


def test_a_warm_up_of_steps_is_its_closed_form(scan: dict[str, Tensor], tmp_path: Path) -> None:
    of_epoch = math.ceil(len(scan["amplitude"]) / 16)
    make = partial(schedules.warmup_cosine_steps, warmup_steps=3, min_ratio=0.01)
    outcome = run(scan, tmp_path, schedule=Schedule(make, "step", of_epoch), epochs=2)
    expected = [1e-3 * warmup_cosine(step, 2 * of_epoch, 3, 0.01) for step in range(2 * of_epoch)]
    largest = [max(expected[:of_epoch]), max(expected[of_epoch:])]
    assert outcome.epochs["learning_rate"] == pytest.approx(largest)


class Freeze(L.Callback):
    """Takes all gradients away, so that nothing improves."""

    def on_after_backward(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()


def test_plateau_lowers_the_learning_rate_when_nothing_improves(
    scan: dict[str, Tensor], tmp_path: Path
) -> None:
    outcome = run(
        scan,
        tmp_path,
        schedule=Schedule(partial(schedules.plateau, factor=0.5, patience=1, min_lr=2e-4)),
        callbacks=[Freeze()],
        epochs=8,
    )
    # The first epoch sets the mark; then two bad epochs in a row each halve, down to the floor.
    factors = [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.2]
    assert outcome.epochs["learning_rate"] == pytest.approx([1e-3 * f for f in factors])


@pytest.mark.parametrize("steps", [6, 8])  # 6 steps an epoch: at the start, within
def test_plateau_counts_the_epoch_in_which_a_run_was_resumed(
    steps: int, scan: dict[str, Tensor], tmp_path: Path
) -> None:
    stop = StopRequest()
    with pytest.raises(Interrupted):
        run(scan, tmp_path, schedule=PLATEAU, stop=stop, callbacks=[Freeze(), StopAfter(stop, steps)])
    outcome = run(scan, tmp_path, schedule=PLATEAU, callbacks=[Freeze()])
    assert outcome.epochs["learning_rate"] == pytest.approx([1e-3, 1e-3, 5e-4])


def rates(make: Any, epochs: int) -> list[float]:
    """Learning rates that a scheduler makes of 0.3."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler, found = make(optimizer), []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(("warmup", "ratio"), [(3, 0.05), (0, 0.0), (-3, 0.05), (8, 0.05)])
def test_warmup_cosine_is_its_closed_form(warmup: int, ratio: float) -> None:
    found = rates(lambda optimizer: build_warmup_cosine_scheduler(optimizer, 8, warmup, ratio), 8)
    assert found == pytest.approx([0.3 * warmup_cosine(e, 8, max(warmup, 0), ratio) for e in range(8)])


@pytest.mark.parametrize(("total", "warmup", "ratio"), [(20, 5, 0.05), (7, 1, 0.0), (50, 10, 0.5)])
def test_warmup_cosine_is_torchs_chain(total: int, warmup: int, ratio: float) -> None:
    def chain(optimizer: torch.optim.Optimizer) -> Any:
        schedulers = torch.optim.lr_scheduler
        return schedulers.SequentialLR(
            optimizer,
            [
                schedulers.LinearLR(optimizer, 0.1, total_iters=warmup),
                schedulers.CosineAnnealingLR(optimizer, total - warmup, eta_min=0.3 * ratio),
            ],
            milestones=[warmup],
        )

    ours = rates(lambda optimizer: build_warmup_cosine_scheduler(optimizer, total, warmup, ratio), total + 1)
    assert ours == pytest.approx(rates(chain, total + 1), abs=1e-12)
    assert ours[-1] == pytest.approx(0.3 * ratio)


def test_sgd_is_nesterovs_when_there_is_momentum() -> None:
    parameters = [nn.Parameter(torch.zeros(1))]
    assert sgd(parameters, 0.1, 0.9, 0.0).param_groups[0]["nesterov"] is True
    assert sgd(parameters, 0.1, 0.0, 0.0).param_groups[0]["nesterov"] is False


# --- what is recorded ------------------------------------------------------------------------


def test_a_run_learns_and_records_every_epoch(scan: dict[str, Tensor], tmp_path: Path) -> None:
    outcome = run(scan, tmp_path, epochs=8, optimizer=partial(torch.optim.Adam, lr=1e-2), flat_baseline=FLAT)
    assert all(len(outcome.epochs[key]) == 8 for key in KEYS)
    assert outcome.epochs["epoch"] == list(range(1, 9))
    assert outcome.epochs["val_loss"][-1] < 0.7 * outcome.epochs["val_loss"][0]
    assert outcome.best_epoch == 1 + int(np.argmin(outcome.epochs["val_loss"]))
    assert artifacts.read_json(tmp_path / artifacts.HISTORY) == outcome.epochs
    with (tmp_path / artifacts.GRAD_NORMS).open() as file:
        rows = list(csv.DictReader(file))
    steps_per_epoch = math.ceil(len(scan["amplitude"]) / 16)
    assert len(rows) == 8 * steps_per_epoch
    assert [int(row["step"]) for row in rows] == list(range(1, len(rows) + 1))
    norms = [float(row["grad_norm"]) for row in rows if row["epoch"] == "2"]
    assert outcome.epochs["grad_norm_max"][1] == pytest.approx(max(norms))
    # What tells learning from the plateau.
    learning = outcome.epochs
    assert learning["explained"] == [1 - loss / FLAT for loss in learning["val_loss"]]
    assert learning["pred_contrast"][-1] > 0.2


def test_a_follower_judges_all_validation_patterns_of_every_epoch(
    scan: dict[str, Tensor], tmp_path: Path
) -> None:
    seen: list[Tensor] = []

    def judge(patches: Tensor) -> float | None:
        seen.append(patches)
        return 0.25 if len(seen) == 1 else None

    outcome = run(scan, tmp_path, epochs=2, callbacks=[ValidationSimilarity(judge)])
    first, second = outcome.epochs["val_ssim"]
    assert first == 0.25 and math.isnan(second)
    assert [len(patches) for patches in seen] == 2 * [len(scan["amplitude"][::3])]
    steps = math.ceil(len(scan["amplitude"]) / 16)
    assert outcome.epochs["step"] == [steps, 2 * steps]
    unfollowed = run(scan, tmp_path / "unfollowed", epochs=2)
    assert unfollowed.epochs["val_ssim"] == [None, None]
    assert unfollowed.epochs["val_loss"] == outcome.epochs["val_loss"]


@pytest.mark.parametrize(
    ("clip", "always"),
    [(NoClip(), False), (NormClip(1e-3), True), (ValueClip(1e-6), True), (AdaptiveClip(1e-6, 1e-3), True)],
)
def test_clipping_is_seen_before_and_after(
    clip: Any, always: bool, scan: dict[str, Tensor], tmp_path: Path
) -> None:
    epochs = run(scan, tmp_path, clip=clip, epochs=1).epochs
    assert epochs["clipped_fraction"] == [1.0 if always else 0.0]
    assert (epochs["grad_norm_clipped_max"][0] < epochs["grad_norm_max"][0]) is always
    if isinstance(clip, NormClip):
        assert epochs["grad_norm_clipped_max"][0] == pytest.approx(1e-3, rel=1e-3)


def test_the_same_patch_for_every_pattern_predicts_no_contrast(
    scan: dict[str, Tensor], tmp_path: Path
) -> None:
    class Flat(L.Callback):
        def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
            with torch.no_grad():
                module.get_submodule("generator.head").weight.zero_()

    flat = run(scan, tmp_path / "flat", epochs=1, callbacks=[Flat()]).epochs
    assert flat["pred_contrast"][0] < 1e-3


def test_weights_before_a_dead_activation_are_counted_as_dead(
    scan: dict[str, Tensor], tmp_path: Path
) -> None:
    """Behind a GELU that is zero everywhere only the last bias and the head still learn."""

    class Kill(L.Callback):
        def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
            self.alive = self.everything = 0
            last = module.get_submodule("generator.decoder")[-1].merge  # type: ignore[index]
            with torch.no_grad():
                last.first.bias.fill_(-1e4)
            for name, weight in module.named_parameters():
                self.everything += weight.numel()
                lives = name.startswith("generator.head.") or weight is last.second.bias
                self.alive += weight.numel() if lives else 0

    kill = Kill()
    dead = run(scan, tmp_path / "dead", epochs=2, callbacks=[kill], blocks=2).epochs["dead_weights"]
    assert dead == pytest.approx([1 - kill.alive / kill.everything] * 2)
    assert max(run(scan, tmp_path / "healthy", epochs=2).epochs["dead_weights"]) < 0.01


def test_predicted_amplitude_std_is_that_of_the_patches(scan: dict[str, Tensor], tmp_path: Path) -> None:
    class Recompute(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
            with torch.no_grad():
                modulus = module(scan["amplitude"][::3]).abs().double()
            weight = scan["probe"].abs().square().double().expand_as(modulus)
            mean = (weight * modulus).sum() / weight.sum()
            self.std = float(((weight * (modulus - mean).square()).sum() / weight.sum()).sqrt())

    recompute = Recompute()
    outcome = run(scan, tmp_path, epochs=2, callbacks=[recompute])
    assert outcome.epochs["pred_amp_std"][-1] == pytest.approx(recompute.std, rel=1e-3)


# --- stops -----------------------------------------------------------------------------------


class Poison(L.Callback):
    """Makes the gradient of step ``at`` not finite, and keeps the weights from just before."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.weights: list[Tensor] = []

    def on_after_backward(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.global_step == self.at:
            parameters = list(module.parameters())
            self.weights = [p.detach().clone() for p in parameters]
            assert parameters[0].grad is not None
            parameters[0].grad.view(-1)[0] = float("nan")


@pytest.mark.parametrize(
    ("late", "optimizer"),
    [
        (False, partial(Muon, lr=1e-3, weight_decay=0.1)),
        (True, partial(torch.optim.Adam, lr=1e-3, fused=True)),
    ],
    ids=["at once", "at the end of the epoch"],
)
def test_a_gradient_that_is_not_finite_stops_before_the_step(
    late: bool, optimizer: Any, scan: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PhysicsSupervised, "_reads_late", lambda *_: late)
    poison = Poison(at=10)
    outcome = run(scan, tmp_path, callbacks=[poison], optimizer=optimizer)
    assert outcome.diverged == "gradient norm is not finite in epoch 2"
    assert len(outcome.epochs["epoch"]) == 1 and outcome.best_epoch == 1
    assert len(outcome.grad_norms) == poison.at + 1  # also those of the broken epoch
    assert np.isfinite(outcome.grad_norms[:-1]).all() and math.isnan(outcome.grad_norms[-1])
    last = [value for name, value in outcome.last_weights.items() if not name.startswith("inputs.")]
    assert all(torch.equal(before, after) for before, after in zip(poison.weights, last, strict=True))


def test_a_stop_in_a_diverged_epoch_is_a_divergence(
    scan: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resume checkpoint of the epoch's start stays: nothing of the lost steps is saved."""
    monkeypatch.setattr(PhysicsSupervised, "_reads_late", lambda *_: True)
    stop = StopRequest()
    fused = partial(torch.optim.Adam, lr=1e-3, fused=True)
    callbacks = [Poison(at=6), StopAfter(stop, 8)]
    assert run(scan, tmp_path, stop=stop, callbacks=callbacks, optimizer=fused).diverged is not None


def test_a_loss_that_is_not_finite_stops_in_the_first_step(scan: dict[str, Tensor], tmp_path: Path) -> None:
    poisoned = scan["amplitude"].clone()
    poisoned[:] = float("inf")
    outcome = run(scan, tmp_path, amplitude=poisoned)
    assert outcome.diverged == "loss is not finite in epoch 1" and outcome.best_epoch == 0


# --- the same bits ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Outcome and directory of a run of three epochs under a schedule, trained once."""

    @cache
    def trained(schedule: Schedule) -> tuple[Outcome, Path]:
        path = tmp_path_factory.mktemp("unbroken")
        return run(scans, path, schedule=schedule), path

    scans: dict[str, Tensor] = {}

    def of(scan: dict[str, Tensor], schedule: Schedule = WARM_UP) -> tuple[Outcome, Path]:
        scans.update(scan)
        return trained(schedule)

    return of


def test_the_same_seed_gives_the_same_bits_whatever_ran_before_and_leaves_nothing_behind(
    scan: dict[str, Tensor], tmp_path: Path, unbroken: Any
) -> None:
    alone, path = unbroken(scan)
    other = run(scan, tmp_path / "other", seed=2, epochs=1, clip=AdaptiveClip(0.01, 1e-3))
    torch.manual_seed(99)
    before, handlers = torch.get_rng_state(), [signal.getsignal(s) for s in StopRequest.signals]
    with StopRequest().listening() as stop:
        assert same(alone, run(scan, tmp_path / "after", stop=stop))
    files = [(there / artifacts.BEST_WEIGHTS).read_bytes() for there in (path, tmp_path / "after")]
    assert files[0] == files[1]
    assert other.epochs["train_loss"][0] != alone.epochs["train_loss"][0]
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()
    assert handlers == [signal.getsignal(s) for s in StopRequest.signals]


@pytest.mark.parametrize(
    "schedule",
    [Schedule(schedules.constant), PLATEAU],
    ids=["constant", "plateau"],
)
def test_more_epochs_give_the_bits_of_a_longer_run(
    schedule: Schedule, scan: dict[str, Tensor], tmp_path: Path
) -> None:
    whole = run(scan, tmp_path / "whole", epochs=5, schedule=schedule)
    short = run(scan, tmp_path / "parts", epochs=2, schedule=schedule)
    assert same(short, run(scan, tmp_path / "parts", epochs=2, schedule=schedule))  # there is nothing to do
    run(scan, tmp_path / "parts", epochs=3, schedule=schedule)
    assert same(whole, run(scan, tmp_path / "parts", epochs=5, schedule=schedule))


def test_more_epochs_follow_the_schedule_over_all_of_them(scan: dict[str, Tensor], tmp_path: Path) -> None:
    run(scan, tmp_path, epochs=2)
    rates = run(scan, tmp_path, epochs=4).epochs["learning_rate"]
    assert rates[2:] == pytest.approx([1e-3 * warmup_cosine(e, 4, 1, 0.05) for e in (2, 3)])


class StopAfter(L.Callback):
    """Asks to stop after ``steps`` steps."""

    def __init__(self, stop: StopRequest, steps: int) -> None:
        self.stop, self.steps = stop, steps

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.steps:
            self.stop.received = signal.SIGTERM


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [(WARM_UP, 0), (PLATEAU, 5), (PLATEAU, 9)],
    ids=["at once", "at the end of an epoch", "within an epoch"],  # of 6 steps
)
def test_a_stopped_run_goes_on_to_the_same_bits(
    schedule: Schedule, steps: int, scan: dict[str, Tensor], tmp_path: Path, unbroken: Any
) -> None:
    whole, path = unbroken(scan, schedule)
    stop = StopRequest()
    with pytest.raises(Interrupted):
        run(scan, tmp_path, schedule=schedule, stop=stop, callbacks=[StopAfter(stop, steps)])
    assert same(whole, run(scan, tmp_path, schedule=schedule))
    texts = [(there / artifacts.GRAD_NORMS).read_text() for there in (path, tmp_path)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("steps", [2, 5])  # within an epoch, and between two
def test_thinned_photons_are_the_same_after_a_stop(
    scan: dict[str, Tensor], tmp_path: Path, steps: int
) -> None:
    thin = Thinning(0.5, photon_scale=30.0)
    whole = run(scan, tmp_path / "whole", thin=thin)
    stop = StopRequest()
    with pytest.raises(Interrupted):
        run(scan, tmp_path / "cut", thin=thin, stop=stop, callbacks=[StopAfter(stop, steps)])
    assert same(whole, run(scan, tmp_path / "cut", thin=thin))
    assert whole.epochs["train_loss"] != run(scan, tmp_path / "full").epochs["train_loss"]


class StopInLastValidation(L.Callback):
    """Asks to stop when nothing but the last validation is left."""

    def __init__(self, stop: StopRequest) -> None:
        self.stop = stop

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:
            self.stop.received = signal.SIGTERM


def test_a_stop_in_the_last_validation_is_heeded(
    scan: dict[str, Tensor], tmp_path: Path, unbroken: Any
) -> None:
    stop = StopRequest()
    with pytest.raises(Interrupted):
        run(scan, tmp_path, stop=stop, callbacks=[StopInLastValidation(stop)])
    assert same(unbroken(scan)[0], run(scan, tmp_path))


class Kill(L.Callback):
    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 8:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a process with CUDA cannot fork")
def test_a_killed_run_goes_on_to_the_same_bits(
    scan: dict[str, Tensor], tmp_path: Path, unbroken: Any
) -> None:
    whole, _ = unbroken(scan)
    child = os.fork()
    if child == 0:
        try:
            run(scan, tmp_path, callbacks=[Kill()])
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert same(whole, run(scan, tmp_path))


def test_without_checkpointing_nothing_is_written_and_the_best_weights_are_kept(
    scan: dict[str, Tensor], tmp_path: Path, unbroken: Any
) -> None:
    quiet = run(scan, tmp_path, enable_checkpointing=False)
    assert not (tmp_path / artifacts.CHECKPOINTS_DIR).exists()
    assert same(quiet, unbroken(scan)[0])


# --- batches ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [4, 4, 2]), (True, [4, 4])])
def test_an_epoch_shows_each_pattern_once_in_a_new_order(drop_last: bool, sizes: list[int]) -> None:
    batches = ResidentBatches(torch.arange(10.0), 4, seed=3, drop_last=drop_last)
    orders = []
    for epoch in (0, 1, 0):
        batches.start_epoch(epoch)
        shown = list(batches)
        assert [len(batch) for batch in shown] == sizes and len(batches) == len(sizes)
        orders.append(torch.cat(shown).tolist())
        assert len(set(orders[-1])) == sum(sizes)
    assert orders[0] == orders[2] != orders[1]


@given(
    samples=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    processes=st.integers(1, 5),
    drop_last=st.booleans(),
)
def test_processes_share_out_every_batch(
    samples: int, batch_size: int, processes: int, drop_last: bool
) -> None:
    values = torch.arange(1.0, samples + 1).double()
    whole = ResidentBatches(values, batch_size, seed=3, drop_last=drop_last)
    parts = [
        ResidentBatches(values, batch_size, seed=3, drop_last=drop_last, rank=rank, processes=processes)
        for rank in range(processes)
    ]
    for index, (batch, *shares) in enumerate(zip(whole, *parts, strict=True)):
        weights = [part.weight(index) for part in parts]
        held = [share for share, weight in zip(shares, weights, strict=True) if weight]
        assert torch.cat(held).tolist() == batch.tolist()
        assert whole.size(index) == parts[0].size(index) == len(batch) and whole.weight(index) == 1
        assert all(len(share) for share in shares)
        if batch_size % processes == 0 and len(batch) == batch_size:
            assert weights == [1.0] * processes
        mean = sum(w * share.mean() for w, share in zip(weights, shares, strict=True)) / processes
        assert float(mean) == pytest.approx(float(batch.mean()))


def test_validation_keeps_its_order() -> None:
    batches = ResidentBatches(torch.arange(5.0), 2, seed=None, drop_last=False)
    assert torch.cat(list(batches)).tolist() == [0, 1, 2, 3, 4]

"""Muon against its definition: what is orthogonal, how far a step goes, and that it is one optimizer."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_fit import StopAfter, run, same, warmup_cosine
from torch import Tensor, nn

from ptychofno import build
from ptychofno.config.composition import compose
from ptychofno.config.records import settings
from ptychofno.models import SpectralConv2d
from ptychofno.training import muon, schedules
from ptychofno.training.interruption import Interrupted, StopRequest
from ptychofno.training.muon import Muon, orthogonalised
from ptychofno.training.schedules import Schedule

MUON = partial(Muon, lr=1e-3)
LAYERS: dict[str, nn.Module] = {
    "convolution": nn.Conv2d(3, 8, 3),
    "narrowing convolution": nn.Conv2d(16, 4, 1),
    "transposed convolution": nn.ConvTranspose2d(6, 5, 2),
    "linear": nn.Linear(7, 5),
    "spectral": SpectralConv2d(4, 6, 3),
}


def as_matrices(layer: nn.Module, tensor: Tensor) -> Tensor:
    return tensor if isinstance(layer, SpectralConv2d) else tensor.flatten(1)[None]


def network_around(layer: nn.Module) -> nn.Sequential:
    """With a first and a last layer, which go with Adam."""
    return nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, 3))


def give_gradients(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


# --- orthogonal ------------------------------------------------------------------------------


@given(m=st.integers(1, 9), n=st.integers(1, 9), seed=st.integers(0, 99), scale=st.floats(1e-3, 1e3))
def test_singular_values_go_where_the_polynomial_takes_them(m: int, n: int, seed: int, scale: float) -> None:
    """The vectors stay: U S Vᵀ becomes U φ(S / |S|) Vᵀ with five rounds of φ(s) = a s + b s³ + c s⁵."""
    torch.manual_seed(seed)
    u, v = (torch.linalg.qr(torch.randn(3, size, min(m, n), dtype=torch.float64))[0] for size in (m, n))
    s = torch.rand(3, min(m, n), dtype=torch.float64)
    expected = s / s.norm(dim=1, keepdim=True)
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    found = orthogonalised((scale * (u * s[:, None]) @ v.mT).float())
    torch.testing.assert_close(found.double(), (u * expected[:, None]) @ v.mT, rtol=0, atol=2e-3)


@pytest.mark.parametrize("products", [torch.float32, torch.bfloat16])
def test_they_end_near_one(monkeypatch: pytest.MonkeyPatch, products: torch.dtype) -> None:
    monkeypatch.setattr(muon, "_products_in", lambda x: products)
    low, high = (0.68, 1.14) if products == torch.float32 else (0.66, 1.16)
    torch.manual_seed(0)
    for shape in ((5, 16, 16), (1, 16, 144), (1, 64, 32), (3, 64, 64), (1, 64, 576)):
        u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
        s = torch.logspace(0, -1, u.shape[2])  # the smallest is a fiftieth of the norm or more
        values = torch.linalg.svdvals(orthogonalised((u * s) @ v))
        assert values.min() > low and values.max() < high


def test_nothing_becomes_nothing() -> None:
    assert torch.equal(orthogonalised(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


# --- a step ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_a_step_of_a_matrix_is_orthogonal_and_as_long_as_adams(name: str) -> None:
    layer = LAYERS[name]
    network = network_around(layer)
    before = layer.weight.detach().clone()
    give_gradients(network, 0)
    Muon(network.parameters(), lr=1e-2).step()
    steps = as_matrices(layer, layer.weight.detach() - before)
    longer, shorter = max(steps.shape[1:]), min(steps.shape[1:])
    assert shorter > 1
    values = torch.linalg.svdvals(steps) / (1e-2 * 0.2 * math.sqrt(longer))
    assert values.shape[1] == shorter and values.max() < 1.21
    # A singular value of a random square matrix may be as small as it likes.
    assert values.median() > 0.68 and (shorter == longer or values.min() > 0.5)
    rms = steps.square().mean().sqrt()
    assert float(rms) == pytest.approx(0.2 * 1e-2, rel=0.2)
    descent = (steps * as_matrices(layer, layer.weight.grad)).sum((1, 2))
    assert (descent < 0).all()


def test_matrices_that_go_together_move_as_each_would_alone() -> None:
    shapes = [
        (8, 72),
        (8, 16),
        (72, 8),
        (8, 3, 3, 3),
        (40, 50),
        (40, 50),
        (40, 60),
        (5, 8, 8),
        (5, 8, 8),
        (1, 8, 9),
    ]
    torch.manual_seed(0)
    ends = [torch.zeros(2, 2), torch.zeros(2, 2)]
    weights = [nn.Parameter(torch.randn(shape)) for shape in (ends[0].shape, *shapes, ends[1].shape)]
    before = [weight.detach().clone() for weight in weights]
    for weight in weights:
        weight.grad = torch.randn(weight.shape)
    assert len(muon._together([muon._as_matrices(weight) for weight in weights[1:-1]])) == 5
    Muon(weights, lr=1e-2, momentum=0.0).step()
    for weight, start in list(zip(weights, before, strict=True))[1:-1]:
        alone = orthogonalised(muon._as_matrices(weight.grad))
        step = 1e-2 * 0.2 * math.sqrt(max(alone.shape[1:])) * alone.view_as(weight)
        torch.testing.assert_close(weight.detach(), start - step)


def test_momentum_is_nesterovs_and_decay_is_decoupled() -> None:
    network = network_around(nn.Linear(7, 5))
    weight = network[1].weight
    expected, moment = weight.detach().clone(), torch.zeros(5, 7)
    optimizer = Muon(network.parameters(), lr=1e-2, momentum=0.8, weight_decay=0.5)
    for seed in range(3):
        give_gradients(network, seed)
        moment = 0.8 * moment + 0.2 * weight.grad
        ahead = 0.8 * moment + 0.2 * weight.grad
        update = orthogonalised(ahead[None])[0]
        expected = (1 - 1e-2 * 0.5) * expected - 1e-2 * 0.2 * math.sqrt(7) * update
        optimizer.step()
        torch.testing.assert_close(weight.detach(), expected)


def test_the_rest_is_adams() -> None:
    """Also where a parameter misses a step."""
    network, other = network_around(nn.Conv2d(3, 8, 3)), network_around(nn.Conv2d(3, 8, 3))
    other.load_state_dict(network.state_dict())
    ours = Muon(network.parameters(), lr=1e-2, betas=(0.8, 0.95), weight_decay=0.3)
    adam = torch.optim.AdamW(other.parameters(), lr=1e-2, betas=(0.8, 0.95), weight_decay=0.3)
    for seed in range(4):
        for one in (network, other):
            give_gradients(one, seed)
            if seed == 1:
                one[2].bias.grad = None
        ours.step()
        adam.step()
    for name, parameter in network.named_parameters():
        equal = torch.allclose(parameter, other.get_parameter(name), rtol=1e-5, atol=1e-7)
        assert equal is (name != "1.weight"), name


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_it_is_torchs_where_torch_has_one() -> None:
    network = network_around(nn.Linear(24, 16))
    weight = network[1].weight
    other = nn.Parameter(weight.detach().clone())
    settings = {"lr": 1e-2, "momentum": 0.9, "weight_decay": 0.2}
    ours = Muon(network.parameters(), **settings)
    torchs = torch.optim.Muon([other], adjust_lr_fn="match_rms_adamw", **settings)
    start = other.detach().clone()
    for seed in range(3):
        give_gradients(network, seed)
        other.grad = weight.grad.clone()
        ours.step()
        torchs.step()
    one, two = (value.detach() - start for value in (weight, other))
    assert float((one - two).norm()) < 0.03 * float(two.norm())  # torch's is in half precision


# --- of a network ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "ends"),
    [
        ("hybrid", {"lifter.first.weight", "head.weight"}),
        ("stable_hybrid", {"lifter.first.weight", "head.weight"}),
        ("cnn", {"lifter.first.weight", "head.weight"}),
        ("fno", {"lifter.first.weight", "refiner.second.weight"}),
    ],
)
def test_adam_has_vectors_and_both_ends(
    model: str, ends: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = compose(["data=grid_lines_tiny", f"model={model}", "optimizer=muon", "model.hidden_channels=4"])
    network = build.generator(cfg, build.dataset(settings(cfg)))
    rest, hidden = Muon(network.parameters(), lr=1e-3).param_groups
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    with_adam, with_muon = ({names[id(p)] for p in group["params"]} for group in (rest, hidden))
    assert with_adam | with_muon == set(names.values()) and not with_adam & with_muon
    vectors = {name for name, p in network.named_parameters() if p.squeeze().ndim < 2}
    assert with_adam == vectors | ends


def test_every_part_of_it_follows_the_schedule(scan: dict[str, Tensor], tmp_path: Path) -> None:
    class Rates(L.Callback):
        found: list[list[float]] = []

        def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
            self.found.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    outcome = run(
        scan,
        tmp_path,
        optimizer=MUON,
        schedule=Schedule(partial(schedules.warmup_cosine, warmup_epochs=2, min_ratio=0.05)),
        epochs=4,
        callbacks=[Rates()],
    )
    expected = [1e-3 * warmup_cosine(epoch, 4, 2, 0.05) for epoch in range(4)]
    assert outcome.epochs["learning_rate"] == pytest.approx(expected)
    assert Rates.found == [pytest.approx([rate, rate]) for rate in expected]
    assert outcome.epochs["val_loss"][-1] < outcome.epochs["val_loss"][0]


def test_a_stopped_run_goes_on_to_the_same_bits(scan: dict[str, Tensor], tmp_path: Path) -> None:
    whole = run(scan, tmp_path / "whole", optimizer=MUON)
    stop = StopRequest()
    with pytest.raises(Interrupted):
        run(scan, tmp_path / "cut", optimizer=MUON, stop=stop, callbacks=[StopAfter(stop, 9)])
    assert same(whole, run(scan, tmp_path / "cut", optimizer=MUON))

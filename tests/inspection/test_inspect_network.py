"""What hooks see of a network, against networks whose values are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ptychofno.inspection.network import inspect_network
from ptychofno.models import PtychoBlock, SpectralConv2d, StablePtychoBlock
from ptychofno.training.clipping import NormClip, total_gradient_norm

SIZE = 16


class Steps(nn.Module):
    """Modules in sequence, of images (B, C, N, N)."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.steps = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


class Scaled(nn.Module):
    """A spectral branch that gives 3 x, beside a convolution that gives x."""

    def __init__(self) -> None:
        super().__init__()
        self.spectral = Times(3.0)
        self.local = nn.Conv2d(2, 2, 1, bias=False)
        nn.init.eye_(self.local.weight.data[:, :, 0, 0])

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.25 * (self.spectral(x) + self.local(x))


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def inspect(network: nn.Module, amplitude: Tensor | None = None, **settings: Any) -> dict[str, Any]:
    amplitude = torch.randn(6, 2, SIZE, SIZE) if amplitude is None else amplitude
    given: dict[str, Any] = {
        "make_optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        "clip": lambda parameters: None,
        "spectral": (SpectralConv2d, Times),
        "batch_size": 4,
        **settings,
    }
    return inspect_network(network, amplitude, lambda x: network(x).square().mean(), **given)


def layer(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = [layer for layer in found["layers"] if layer["name"] == name]
    return dict(one)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_branches_and_update_of_a_block_with_weights_set_by_hand() -> None:
    found = layer(inspect(Steps(nn.Conv2d(2, 2, 3, padding=1), Scaled())), "steps.1")
    assert found["spectral_to_local"] == pytest.approx(3, rel=1e-5)
    assert found["update_to_input"] == pytest.approx(1, rel=1e-5)


def test_only_sums_with_the_input_are_residual() -> None:
    found = inspect(Steps(PtychoBlock(2, 3), nn.Conv2d(2, 2, 3, padding=1), StablePtychoBlock(2, 3, 0.5)))
    ratios = {entry["name"]: entry["update_to_input"] for entry in found["layers"]}
    assert {name for name, ratio in ratios.items() if ratio is not None} == {"steps.0", "steps.2"}
    # An instance norm of weight 1 leaves a root mean square of 1.
    rms = (layer(found, "steps.1")["std"] ** 2 + layer(found, "steps.1")["mean"] ** 2) ** 0.5
    assert ratios["steps.2"] == pytest.approx(0.5 / rms, rel=1e-3)


def test_a_sum_without_the_input_is_not_residual() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = Times(2.0), Times(3.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) + self.other(x)

    assert layer(inspect(Steps(Both())), "steps.0")["update_to_input"] is None


def test_a_block_that_starts_as_the_identity() -> None:
    found = inspect(Steps(StablePtychoBlock(2, 3, None)))
    block = layer(found, "steps.0")
    assert block["update_to_input"] == 0 and block["norm_weight"] == 0 and block["layerscale"] is None
    (norm,) = [p for p in found["parameters"] if p["name"] == "steps.0.norm.weight"]
    assert (
        norm["norm"] == 0 and norm["grad_norm"] > 0 and norm["update_to_weight"] != norm["update_to_weight"]
    )


def test_gains_are_found_by_what_they_are() -> None:
    found = inspect(Steps(StablePtychoBlock(2, 3, 0.125)))
    gains = {gain["name"]: (gain["kind"], gain["mean"]) for gain in found["gains"]}
    assert gains == {"steps.0.layerscale": ("layerscale", 0.125), "steps.0.norm.weight": ("norm", 1.0)}
    assert layer(found, "steps.0")["layerscale"] == 0.125


def test_zeros_after_gelu_as_function_and_as_module() -> None:
    class Function(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.gelu(x)

    # Half of the pixels far below zero, a quarter at zero, a quarter above.
    pixels = torch.tensor([-9.0, -9.0, 0.0, 1.0]).repeat(SIZE * SIZE // 4).reshape(1, 1, SIZE, SIZE)
    found = inspect(Steps(Times(1.0), nn.GELU(), Times(1.0)), pixels)
    assert layer(found, "steps.1")["gelu_zero_fraction"] == 0.75
    assert layer(found, "steps.0")["gelu_zero_fraction"] is None
    found = inspect(Steps(Times(1.0), Function()), pixels)
    assert layer(found, "steps.1")["gelu_zero_fraction"] == 0.75


def test_gradients_and_steps_against_autograd() -> None:
    network, amplitude = (
        Steps(nn.Conv2d(2, 3, 3), nn.GELU(), nn.Conv2d(3, 2, 1)),
        torch.randn(6, 2, SIZE, SIZE),
    )
    found = inspect(network, amplitude)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    loss = network(amplitude).square().mean()
    loss.backward()
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for entry in found["parameters"]:
        p = network.get_parameter(entry["name"])
        assert torch.equal(p, before[entry["name"]]) and entry["shape"] == list(p.shape)
        assert p.grad is not None
        assert entry["norm"] == pytest.approx(p.norm().item(), rel=1e-5)
        assert entry["grad_norm"] == pytest.approx(p.grad.norm().item(), rel=1e-4)
        assert entry["update_to_weight"] == pytest.approx(
            0.1 * p.grad.norm().item() / p.norm().item(), rel=1e-3
        )
    of_first = [p.norm().item() for name, p in network.named_parameters() if name.startswith("steps.0.")]
    first = layer(found, "steps.0")
    assert first["weight_norm"] == pytest.approx(sum(n**2 for n in of_first) ** 0.5, rel=1e-5)
    assert first["parameters"] == 2 * 3 * 9 + 3


def test_clipping_shortens_the_step_and_not_the_gradient_told() -> None:
    network = Steps(nn.Conv2d(2, 2, 1))
    free = layer(inspect(network), "steps.0")
    torch.manual_seed(0)
    clip = NormClip(1e-3)
    clipped = layer(
        inspect(network, clip=lambda moving: clip(moving, {}, total_gradient_norm(moving))), "steps.0"
    )
    assert clipped["update_to_weight"] == pytest.approx(0.1 * 1e-3 / clipped["weight_norm"], rel=1e-3)
    assert free["update_to_weight"] > clipped["update_to_weight"] and clipped["grad_norm"] > 1e-2


def test_batches_do_not_change_the_result() -> None:
    network, amplitude = Steps(StablePtychoBlock(2, 3), nn.Conv2d(2, 2, 1)), torch.randn(6, 2, SIZE, SIZE)
    one, several = (inspect(network, amplitude, batch_size=size) for size in (6, 4))
    for a, b in zip(one["layers"], several["layers"], strict=True):
        assert {k: v for k, v in a.items() if isinstance(v, float)} == pytest.approx(
            {k: v for k, v in b.items() if isinstance(v, float)}, rel=1e-3, abs=1e-7
        )


def test_stages_and_their_parts_in_the_order_of_execution() -> None:
    found = inspect(Steps(PtychoBlock(2, 3), nn.Conv2d(2, 2, 1)))
    names = [(entry["name"], entry["stage"]) for entry in found["layers"]]
    assert names == [
        ("steps.0", True),
        ("steps.0.spectral", False),
        ("steps.0.local", False),
        ("steps.1", True),
    ]


def test_no_hook_is_left_behind() -> None:
    network = Steps(PtychoBlock(2, 3))
    inspect(network)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert all(p.grad is None for p in network.parameters())

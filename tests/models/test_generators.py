"""The networks' contract, structure and starting point."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from ptychofno import models, physics
from ptychofno.models.layout import is_channels_last, to_channels_last
from ptychofno.models.levels import plan_levels

SIZE = 16
BLOCKS: dict[str, dict[str, Any]] = {
    "ptycho": {"_target_": "ptychofno.models.PtychoBlock"},
    "layerscale": {"_target_": "ptychofno.models.StablePtychoBlock", "layerscale_init": 1e-3},
    "zero_gamma": {"_target_": "ptychofno.models.StablePtychoBlock", "layerscale_init": None},
}
FOURIER = {"fno_blocks": 3, "hidden_channels": 4, "modes": 3, "block": BLOCKS["ptycho"]}
MODELS: dict[str, dict[str, Any]] = {
    "hybrid": {"_target_": "ptychofno.models.HybridUNOGenerator", **FOURIER},
    "stable_hybrid": {  # as earlier runs have it on record
        "_target_": "ptychofno.models.StableHybridUNOGenerator",
        **FOURIER,
        "block": BLOCKS["layerscale"],
    },
    "unshuffled": {"_target_": "ptychofno.models.HybridUNOGenerator", **FOURIER, "unshuffle": 2},
    "fno": {"_target_": "ptychofno.models.CascadedFNOGenerator", **FOURIER},
    "cnn": {"_target_": "ptychofno.models.CNNGenerator", "levels": 3, "hidden_channels": 4},
}
INPUTS: dict[str, dict[str, Any]] = {
    "amplitude": {"_target_": "ptychofno.models.AmplitudeInput"},
    "backprojection": {"_target_": "ptychofno.models.BackprojectionInput", "epsilon": 0.01},
}
OUTPUTS: dict[str, dict[str, Any]] = {
    "patch": {"_target_": "ptychofno.models.PatchOutput"},
    "projected": {"_target_": "ptychofno.models.ProjectedOutput", "rounds": 2, "epsilon": 0.01},
}


def build(model: str = "hybrid", inputs: str = "amplitude", patches: int = 1, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    probe = torch.randn(SIZE, SIZE, dtype=torch.complex64)
    return models.build_generator(
        {**MODELS[model], "inputs": INPUTS[inputs], **changes},
        size=SIZE,
        patches=patches,
        probe=probe,
        rms_amplitude=2.0,
        back_project=physics.back_projection,
        project=physics.error_reduction,
    )


@pytest.mark.parametrize("patches", [1, 4])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("model", MODELS)
def test_contract_and_a_gradient_for_every_parameter(
    model: str, inputs: str, output: str, patches: int
) -> None:
    network = build(model, inputs, patches, output=OUTPUTS[output])
    out = network(torch.rand(2, patches, SIZE, SIZE))
    assert out.shape == (2, SIZE, SIZE, patches, 2) and out.dtype == torch.float32
    out.square().sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


@pytest.mark.parametrize("model", MODELS)
def test_no_number_among_the_parameters_is_without_effect(model: str) -> None:
    """A spectral weight that irfft2 ignores has no gradient, whatever the input; none may be stored."""
    network = build(model).double()
    out = network(torch.rand(3, 1, SIZE, SIZE, dtype=torch.float64))
    out.backward(torch.randn_like(out))
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        size = parameter.grad.abs()
        assert (size > 1e-9 * size.max()).all(), name


@pytest.mark.parametrize("patches", [1, 4])
@pytest.mark.parametrize("model", MODELS)
def test_a_network_starts_around_the_empty_object(model: str, patches: int) -> None:
    """A start near 0 leaves the phase of every pixel to the seed, and some seeds never recover."""
    patch = build(model, patches=patches)(torch.zeros(2, patches, SIZE, SIZE))
    torch.testing.assert_close(patch.mean((0, 1, 2, 3)), torch.tensor([1.0, 0.0]), atol=0.5, rtol=0)


@pytest.mark.parametrize("patches", [1, 4])
def test_a_projected_patch_explains_its_own_pattern_better(patches: int) -> None:
    """Patch for patch: a projection by another patch's amplitude would not."""
    amplitude = torch.rand(2, patches, SIZE, SIZE) * torch.arange(1.0, patches + 1).view(-1, 1, 1)
    networks = [build(patches=patches, output=OUTPUTS[name]) for name in OUTPUTS]
    probe = networks[1].get_buffer("output.probe")
    errors = []
    for network in networks:
        patch = torch.view_as_complex(network(amplitude).detach().contiguous()).movedim(-1, 1)
        errors.append((physics.diffraction_amplitude(patch, probe) - amplitude).square().sum((-2, -1)))
    assert (errors[1] < errors[0]).all()


@pytest.mark.parametrize("block", BLOCKS)
def test_each_block_goes_into_the_same_network(block: str) -> None:
    network = build("hybrid", block=BLOCKS[block])
    classes = {type(m).__name__ for m in network.modules() if isinstance(m, models.PtychoBlock)}
    assert classes == {BLOCKS[block]["_target_"].rsplit(".", 1)[-1]}
    blocks = [m for m in network.modules() if isinstance(m, models.PtychoBlock)]
    assert len(blocks) == 4  # three encoder blocks and the bottleneck, none of them shared
    assert len({id(b) for b in blocks}) == 4


@pytest.mark.parametrize("patches", [1, 4])
@pytest.mark.parametrize("model", MODELS)
def test_activations_and_their_gradients_stay_in_channels_last(model: str, patches: int) -> None:
    """One layer that answers in another layout makes those after it convert, or take the slower way."""
    network = build(model, patches=patches)
    strays = []

    def look(name: str, values: torch.Tensor) -> None:
        if not is_channels_last(values):
            strays.append(name)

    def watch(name: str, module: nn.Module) -> None:
        def after(_: nn.Module, inputs: Any, out: torch.Tensor) -> None:
            look(name, out)
            out.register_hook(lambda gradient: look(f"gradient of {name}", gradient))

        module.register_forward_hook(after)

    for name, module in network.named_modules():
        if name and not name.startswith(("inputs", "output")) and not isinstance(module, nn.ModuleList):
            watch(name, module)
    out = network(torch.rand(2, patches, SIZE, SIZE))
    out.backward(torch.randn_like(out))
    assert out.is_contiguous() and strays == []


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("model", MODELS)
def test_the_layout_changes_nothing_but_the_order_of_sums(model: str, inputs: str) -> None:
    network = build(model, inputs).double()
    amplitude = torch.rand(2, 1, SIZE, SIZE, dtype=torch.float64)
    found = []
    for laid in (lambda x: x, to_channels_last):
        network.zero_grad()
        network.arrange = laid
        out = network.own_patch(amplitude)
        (out.movedim(1, -1) * torch.linspace(-1, 1, SIZE)).sum().backward()
        found.append([out, *(p.grad for p in network.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("model", ["hybrid", "stable_hybrid"])
def test_a_batch_of_networks_is_each_of_them(model: str) -> None:
    networks = [build(model), build(model)]
    with torch.no_grad():
        for parameter in networks[1].parameters():
            parameter.mul_(0.9)
    amplitude = torch.rand(2, 1, SIZE, SIZE)
    stacked = torch.func.stack_module_state(networks)
    together = torch.func.vmap(
        lambda parameters, buffers: torch.func.functional_call(
            networks[0], (parameters, buffers), (amplitude,)
        )
    )(*stacked)
    for one, network in zip(together, networks, strict=True):
        torch.testing.assert_close(one, network(amplitude))


@pytest.mark.parametrize("laid", [torch.clone, to_channels_last])
def test_blocks_are_their_formulas(laid: Callable[[torch.Tensor], torch.Tensor]) -> None:
    torch.manual_seed(0)
    x = laid(torch.randn(2, 4, 8, 8))
    plain = models.PtychoBlock(4, 3)
    update = nn.functional.gelu(plain.spectral(x) + plain.local(x))
    torch.testing.assert_close(plain(x), x + update)
    stable = models.StablePtychoBlock(4, 3, layerscale_init=0.1)
    stable.load_state_dict(plain.state_dict(), strict=False)
    mean, variance = update.mean((2, 3), keepdim=True), update.var((2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(stable(x), x + 0.1 * (update - mean) / (variance + 1e-5).sqrt())


def test_zero_gamma_starts_as_the_identity_and_still_learns() -> None:
    block = models.StablePtychoBlock(4, 3, layerscale_init=None)
    x = torch.randn(2, 4, 8, 8)
    out = block(x)
    assert torch.equal(out, x)
    (out * torch.randn_like(out)).sum().backward()
    assert block.norm.weight.grad is not None and block.norm.weight.grad.abs().sum() > 0


def test_levels_double_up_to_the_cap_and_stop_halving_at_two_pixels() -> None:
    levels = plan_levels(depth=8, width=32, cap=512, size=64)
    assert [level.channels for level in levels] == [32, 64, 128, 256, 512, 512, 512, 512]
    assert [level.size for level in levels] == [64, 32, 16, 8, 4, 2, 2, 2]


def test_four_blocks_of_the_published_network() -> None:
    network = models.HybridUNOGenerator(models.AmplitudeInput(1.0), 1, 64)
    widths = [block.spectral.in_channels for block in network.encoder]
    assert widths == [32, 64, 128, 256]
    assert network.bottleneck.spectral.band.columns == 5  # 6 modes asked for, 8 pixels hold 5 columns


@pytest.mark.slow
def test_depth_eight_trains_at_full_size() -> None:
    network = models.HybridUNOGenerator(
        models.AmplitudeInput(1.0),
        1,
        64,
        fno_blocks=8,
        max_hidden_channels=256,
        checkpoint_activations=True,
    )
    network(torch.rand(2, 1, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_depth_eight_trains_on_a_small_grid() -> None:
    network = build("hybrid", fno_blocks=8, max_hidden_channels=8, checkpoint_activations=True)
    network(torch.rand(2, 1, SIZE, SIZE)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_what_does_not_divide_the_patch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.unshuffle=3 does not divide the patch's 16 px"):
        build("unshuffled", unshuffle=3)


def test_activation_checkpointing_changes_no_gradient() -> None:
    x = torch.rand(2, 1, SIZE, SIZE)
    gradients = []
    for checkpoint_activations in (False, True):
        network = build("hybrid", checkpoint_activations=checkpoint_activations)
        network(x).square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)


def test_inputs_are_of_order_one_in_any_unit() -> None:
    probe = torch.ones(SIZE, SIZE, dtype=torch.complex64)
    for unit in (1e-3, 1e3):
        amplitude = physics.diffraction_amplitude(torch.full_like(probe, 0.9), unit * probe)[None, None]
        rms = float(amplitude.square().mean().sqrt())
        features = models.BackprojectionInput(unit * probe, rms, physics.back_projection, 0.01)(amplitude)
        assert features.shape == (1, 3, SIZE, SIZE)
        torch.testing.assert_close(features[:, 1], torch.full_like(features[:, 1], 0.9 / 1.01))
        assert float(features[:, 0].square().mean()) == pytest.approx(1.0)


def test_a_foreign_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"os\.system.*not one of ours"):
        build("hybrid", block={"_target_": "os.system"})


def test_a_users_own_block_needs_only_a_class() -> None:
    class Quiet(models.PtychoBlock):
        def __init__(self, channels: int, modes: Any, volume: float) -> None:
            super().__init__(channels, modes)
            self.volume = volume

    find = {"mine.Quiet": partial(Quiet)}
    network = models.build_generator(
        {
            **MODELS["hybrid"],
            "inputs": INPUTS["amplitude"],
            "block": {"_target_": "mine.Quiet", "volume": 0.5},
        },
        size=SIZE,
        patches=1,
        probe=torch.ones(SIZE, SIZE),
        rms_amplitude=1.0,
        back_project=physics.back_projection,
        project=physics.error_reduction,
        find=lambda name: find.get(name) or models.of_ours(name),
    )
    assert isinstance(network.encoder[0], Quiet) and network.encoder[0].volume == 0.5

"""Generators: from diffraction amplitudes to the complex object patch.

Shapes: B batch, C patches per sample (gridsize squared), N patch size. Every generator maps
measured amplitudes, float32 (B, C, N, N), to float32 (B, N, N, C, 2), the real and imaginary part of
the patches. With C > 1 it is told their positions, (B, C, 2) in pixels, too: they share one object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle
from torch.utils.checkpoint import checkpoint
from typing_extensions import Doc

from ptychofno.models.blocks import (
    ConvBlock,
    PointwiseConv2d,
    PtychoBlock,
    SpatialLifter,
    StablePtychoBlock,
)
from ptychofno.models.layout import to_channels_last
from ptychofno.models.levels import Level, plan_levels
from ptychofno.models.outputs import PatchOutput
from ptychofno.models.spectral import Band, kept_modes, shared_matrices

BlockClass = Callable[[int, "int | tuple[int, int] | Band"], nn.Module]

Inputs = Annotated[nn.Module, Doc("what the network sees (group model/inputs)")]
Output = Annotated[nn.Module | None, Doc("what becomes of the network's patch (group model/output)")]
Block = Annotated[BlockClass | None, Doc("the block, made as block(channels, modes) (group model/block)")]
Neighbours = Annotated[
    Literal["channels", "single"],
    Doc("how the g*g patterns of a sample are seen: as channels together, or each as a single one"),
]
Recompute = Annotated[bool, Doc("recompute activations in backward to save memory")]
Cap = Annotated[int | None, Ge(1), Doc("cap on the doubling of channels; null for none")]
Width = Annotated[int, Ge(1), Le(4096), Doc("channels of the first level")]
Unshuffle = Annotated[
    int, Ge(1), Le(16), Doc("layers work on N / this pixels a side: squares of so many become channels")
]


class Generator(nn.Module):
    """Features in, patch out; what lies between is a subclass's ``body``.

    Args:
        inputs: an input module with ``channels_per_pattern`` (``models.inputs``).
        patches: C. neighbours: ``channels`` shows the layers all at once, ``single`` one by one.
        checkpoint_activations: recompute a stage's activations in the backward pass instead of
            keeping them: less memory, about a third more time.
        output: an output module (``models.outputs``); ``None`` for the patch as it is.
        unshuffle: f; pixels (f N', f N') become f * f channels of (N', N') before the layers, and those of
            the patch pixels again after them (Shi et al. 2016): layers cost less, and see further.
    """

    def __init__(
        self,
        inputs: nn.Module,
        patches: int,
        checkpoint_activations: bool,
        output: nn.Module | None = None,
        neighbours: str = "channels",
        unshuffle: int = 1,
    ) -> None:
        super().__init__()
        self.inputs, self.unshuffle = inputs, unshuffle
        self.output = PatchOutput() if output is None else output
        self.patches = 1 if neighbours == "single" else patches
        of_a_pixel = self.patches * unshuffle**2
        self.in_channels = of_a_pixel * int(inputs.channels_per_pattern)  # type: ignore[arg-type]
        self.out_channels = 2 * of_a_pixel
        self.checkpoint_activations = checkpoint_activations

    def forward(self, amplitude: Tensor, positions_px: Tensor | None = None) -> Tensor:
        """float32 (B, C, N, N), and (B, C, 2) for patches that share an object, to (B, N, N, C, 2)."""
        answer: Tensor = self.output(self.own_patch(amplitude), amplitude, positions_px)
        return answer

    def own_patch(self, amplitude: Tensor) -> Tensor:
        """The layers' patch, before the output module; shapes as of ``forward``."""
        B, C, N, _ = amplitude.shape
        features, f = self.inputs(amplitude.reshape(-1, self.patches, N, N)), self.unshuffle
        out = self.body(self.arrange(pixel_unshuffle(features, f) if f > 1 else features))
        out = pixel_shuffle(out, f) if f > 1 else out
        return out.unflatten(1, (self.patches, 2)).reshape(B, C, 2, N, N).permute(0, 3, 4, 1, 2)

    def compile(self, *args: Any, **settings: Any) -> None:
        """As torch's, but for the output: inductor has no code for complex numbers and trips over them."""
        torch.compiler.assume_constant_result(shared_matrices)
        self.output.forward = torch.compiler.disable(self.output.forward)
        super().compile(*args, **settings)

    def arrange(self, x: Tensor) -> Tensor:
        """Features in the layout in which activations flow on their device; see ``models.layout``."""
        return to_channels_last(x) if x.device.type == "cpu" else x

    def body(self, x: Tensor) -> Tensor:
        """Features (B, in_channels, N', N') in any layout to (B, out_channels, N', N')."""
        raise NotImplementedError

    def start_empty(self, output: nn.Conv2d) -> nn.Conv2d:
        """Let ``output``, the last layer, start around the empty object O = 1.

        Around O = 0 a seed decides which phase grows at which pixel, and some seeds never recover
        from what they drew (experiments/default_recipe has one).
        """
        assert output.bias is not None
        with torch.no_grad():
            one = torch.tensor([1.0, 0.0]).repeat_interleave(self.unshuffle**2)
            output.bias.copy_(one.repeat(self.patches))
        return output

    def stage(self, module: nn.Module, *inputs: Tensor) -> Tensor:
        """Run one stage, recomputing it in backward where asked to."""
        if self.checkpoint_activations and self.training:
            return checkpoint(module, *inputs, use_reentrant=False)
        return module(*inputs)


class UpStage(nn.Module):
    """Up to the size of the level above, join its skip, Conv3×3 – GELU – Conv3×3."""

    def __init__(self, below: Level, above: Level) -> None:
        super().__init__()
        sampling = (2, 2) if above.halves else (1, 1)
        self.up = nn.ConvTranspose2d(below.channels, above.channels, sampling, stride=sampling)
        self.merge = SpatialLifter(2 * above.channels, above.channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.merge(torch.cat((self.up(x), skip), dim=1))


class UGenerator(Generator):
    """Lifter; blocks with stride-2 convolutions between them; bottleneck; decoder with skips; 1×1.

    Args:
        make_block: block for a level; the bottleneck asks for it with ``bottleneck=True``.
        levels: from full resolution down.
    """

    def __init__(
        self,
        inputs: nn.Module,
        patches: int,
        levels: Sequence[Level],
        make_block: Callable[[Level, bool], nn.Module],
        checkpoint_activations: bool,
        output: nn.Module | None = None,
        neighbours: str = "channels",
        unshuffle: int = 1,
    ) -> None:
        super().__init__(inputs, patches, checkpoint_activations, output, neighbours, unshuffle)
        pairs = list(pairwise(levels))
        self.lifter = SpatialLifter(self.in_channels, levels[0].channels)
        self.encoder = nn.ModuleList(make_block(level, False) for level in levels)
        self.down = nn.ModuleList(
            nn.Conv2d(
                above.channels, below.channels, 2 if above.halves else 1, stride=2 if above.halves else 1
            )
            for above, below in pairs
        )
        self.bottleneck = make_block(levels[-1], True)
        self.decoder = nn.ModuleList(UpStage(below, above) for above, below in reversed(pairs))
        self.head = self.start_empty(PointwiseConv2d(levels[0].channels, self.out_channels))

    def body(self, x: Tensor) -> Tensor:
        x = self.stage(self.lifter, x)
        skips = []
        for block, down in zip(self.encoder[:-1], self.down, strict=True):
            skips.append(self.stage(block, x))
            x = down(skips[-1])
        x = self.stage(self.encoder[-1], x)
        x = self.stage(self.bottleneck, x)
        for up, skip in zip(self.decoder, reversed(skips), strict=True):
            x = self.stage(up, x, skip)
        return self.head(x)


class HybridUNOGenerator(UGenerator):
    """Fourier blocks in a U shape, after U-NO (Rahman, Ross and Azizzadenesheli 2022).

    Args:
        inputs, patches: see ``Generator``.
        size: N; together with ``modes`` it fixes the modes that each level can hold.
        fno_blocks: levels of 2 pixels are not halved further.
        hidden_channels: doubled from level to level.
        modes: the bottleneck keeps half as many.
        max_hidden_channels: weights grow as its square.
        checkpoint_activations, output, neighbours, unshuffle: see ``Generator``.

    Raises ValueError where ``unshuffle`` does not divide the size.
    """

    default_block: ClassVar[type[nn.Module]] = PtychoBlock

    def __init__(
        self,
        inputs: Inputs,
        patches: int,
        size: int,
        block: Block = None,
        fno_blocks: Annotated[int, Ge(1), Le(16), Doc("encoder blocks, one per level of the U")] = 4,
        hidden_channels: Width = 32,
        modes: Annotated[int, Ge(1), Le(1024), Doc("Fourier modes kept per axis at full resolution")] = 12,
        max_hidden_channels: Cap = None,
        checkpoint_activations: Recompute = False,
        output: Output = None,
        neighbours: Neighbours = "channels",
        unshuffle: Unshuffle = 1,
    ) -> None:
        if size % unshuffle:
            raise ValueError(f"model.unshuffle={unshuffle} does not divide the patch's {size} px")

        def make_block(level: Level, bottleneck: bool) -> nn.Module:
            wanted = max(1, modes // 2) if bottleneck else modes
            made: nn.Module = (block or self.default_block)(level.channels, kept_modes(wanted, level.size))
            return made

        levels = plan_levels(fno_blocks, hidden_channels, max_hidden_channels, size // unshuffle)
        super().__init__(
            inputs, patches, levels, make_block, checkpoint_activations, output, neighbours, unshuffle
        )


class StableHybridUNOGenerator(HybridUNOGenerator):
    """``HybridUNOGenerator`` whose block, unless another is given, is the norm-last residual one."""

    default_block: ClassVar[type[nn.Module]] = StablePtychoBlock


class CNNGenerator(UGenerator):
    """The same U with convolutional blocks: an encoder-decoder without Fourier layers."""

    def __init__(
        self,
        inputs: Inputs,
        patches: int,
        size: int,
        levels: Annotated[int, Ge(1), Le(8), Doc("resolution levels of the U")] = 4,
        hidden_channels: Width = 32,
        max_hidden_channels: Cap = None,
        output: Output = None,
        neighbours: Neighbours = "channels",
    ) -> None:
        plan = plan_levels(levels, hidden_channels, max_hidden_channels, size)
        super().__init__(
            inputs, patches, plan, lambda level, _: ConvBlock(level.channels), False, output, neighbours
        )


class CascadedFNOGenerator(Generator):
    """Fourier blocks in sequence at full resolution, then a convolutional refiner (Li et al. 2021).

    Args: as ``HybridUNOGenerator``; every block has ``hidden_channels`` and ``modes``.
    """

    def __init__(
        self,
        inputs: Inputs,
        patches: int,
        size: int,
        block: Block = None,
        fno_blocks: Annotated[int, Ge(1), Le(32), Doc("blocks in sequence, all at full resolution")] = 4,
        hidden_channels: Annotated[int, Ge(1), Le(4096), Doc("channels of every block")] = 32,
        modes: Annotated[int, Ge(1), Le(1024), Doc("Fourier modes kept per axis")] = 12,
        checkpoint_activations: Recompute = False,
        output: Output = None,
        neighbours: Neighbours = "channels",
    ) -> None:
        super().__init__(inputs, patches, checkpoint_activations, output, neighbours)
        held = kept_modes(modes, size)
        self.lifter = SpatialLifter(self.in_channels, hidden_channels)
        self.blocks = nn.ModuleList((block or PtychoBlock)(hidden_channels, held) for _ in range(fno_blocks))
        self.projection = nn.Conv2d(hidden_channels, hidden_channels, 1)
        self.refiner = SpatialLifter(hidden_channels, self.out_channels)
        self.start_empty(self.refiner.second)

    def body(self, x: Tensor) -> Tensor:
        x = self.stage(self.lifter, x)
        for block in self.blocks:
            x = self.stage(block, x)
        return self.refiner(self.projection(x))

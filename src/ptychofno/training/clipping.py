"""Gradient clipping: callables that change gradients in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn
from typing_extensions import Doc

OutputAxes = Mapping[Tensor, int]

Clip = Callable[[Sequence[nn.Parameter], OutputAxes, Tensor], Tensor]
"""One way of clipping.

Called with the parameters that have gradients, ``output_axes`` as from ``output_axes_of``, and the
Euclidean norm of all gradients together, a scalar on their device; returns that norm afterwards.
"""


def total_gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Euclidean norm of all gradients together, a scalar on their device."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def output_axes_of(module: nn.Module) -> dict[Tensor, int]:
    """Which axis of each weight counts its output channels; biases and gains have none and are not listed.

    Convolutions and linear layers have it first, transposed convolutions second; any other module says so in
    a class attribute ``output_axes``, from parameter name to axis.
    """
    axes: dict[Tensor, int] = {}
    for layer in module.modules():
        if isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            axes[layer.weight] = 1
        elif isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
            axes[layer.weight] = 0
        else:
            for name, axis in getattr(layer, "output_axes", {}).items():
                axes[getattr(layer, name)] = axis
    return axes


@torch.no_grad()
def adaptive_gradient_clip_(
    parameters: Iterable[nn.Parameter],
    clip_factor: float = 0.01,
    eps: float = 1e-3,
    output_axes: OutputAxes | None = None,
) -> None:
    """Scale gradients down where they are large against their own weights, in place.

    Brock et al. 2021, Algorithm 2: per output channel i, where |G_i| > λ max(|W_i|, ε), multiply G_i by λ
    max(|W_i|, ε) / |G_i|; λ is ``clip_factor``, and ``eps`` lets weights starting at 0 move. A parameter that
    is not in ``output_axes`` is one unit as a whole; None takes axis 0 of every tensor of two or more axes.
    """
    # A list at a time: of a network's hundred small tensors each operation alone costs more to start
    # than to do.
    moving = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in moving if parameter.grad is not None]
    if not moving:
        return
    axes = [
        (0 if parameter.ndim > 1 else None) if output_axes is None else output_axes.get(parameter)
        for parameter in moving
    ]
    factors, norms = (list(map(unit_norm, tensors, axes)) for tensors in (moving, gradients))
    if not nn.utils.get_total_norm(norms).isfinite():  # squares overflow above 1.8e19
        norms = [unit_norm(gradient.double(), axis) for gradient, axis in zip(gradients, axes, strict=True)]
    torch._foreach_clamp_min_(factors, eps)
    torch._foreach_mul_(factors, clip_factor)
    torch._foreach_div_(factors, norms)  # infinite where there is no gradient, which the next line ends
    torch._foreach_clamp_max_(factors, 1.0)
    torch._foreach_mul_(gradients, factors)


def unit_norm(tensor: Tensor, axis: int | None) -> Tensor:
    """Euclidean norm per index of ``axis`` (of the whole tensor for None), broadcastable to it."""
    others = [other for other in range(tensor.ndim) if axis is None or other != axis % tensor.ndim]
    if not others:
        return tensor.abs()
    # Not vector_norm: over leading axes, as of a spectral weight, it takes seven times as long.
    return tensor.square().sum(others, keepdim=True).sqrt_()


@dataclass(frozen=True)
class NoClip:
    """Leave gradients as they are."""

    def __call__(self, parameters: Sequence[nn.Parameter], output_axes: OutputAxes, norm: Tensor) -> Tensor:
        return norm


@dataclass(frozen=True)
class NormClip:
    """Scale all gradients together so that their global norm is at most ``value`` (Pascanu et al. 2013)."""

    value: Annotated[float, Gt(0), Doc("largest global gradient norm")] = 1.0

    def __call__(self, parameters: Sequence[nn.Parameter], output_axes: OutputAxes, norm: Tensor) -> Tensor:
        nn.utils.clip_grads_with_norm_(parameters, self.value, norm)
        return norm.clamp(max=self.value)


@dataclass(frozen=True)
class ValueClip:
    """Clamp every gradient entry to ±``value``."""

    value: Annotated[float, Gt(0), Doc("largest absolute gradient entry")] = 0.1

    def __call__(self, parameters: Sequence[nn.Parameter], output_axes: OutputAxes, norm: Tensor) -> Tensor:
        nn.utils.clip_grad_value_(parameters, self.value)
        return total_gradient_norm(parameters)


@dataclass(frozen=True)
class AdaptiveClip:
    """Adaptive gradient clipping with λ = ``value``; see ``adaptive_gradient_clip_``."""

    value: Annotated[float, Gt(0), Doc("largest gradient norm over weight norm, per output channel")] = 0.01
    eps: Annotated[float, Gt(0), Doc("weight norms below this count as this")] = 1e-3

    def __call__(self, parameters: Sequence[nn.Parameter], output_axes: OutputAxes, norm: Tensor) -> Tensor:
        adaptive_gradient_clip_(parameters, self.value, self.eps, output_axes)
        return total_gradient_norm(parameters)

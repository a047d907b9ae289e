"""What the parameters of a network are, and what one step of training would do to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class ParameterValues:
    """Euclidean norms of a parameter, or of several together.

    Attributes:
        count: numbers in it.
        norm, grad_norm: of itself and of its gradient.
        update_norm: of what one optimizer step changes.
    """

    count: int
    norm: float
    grad_norm: float
    update_norm: float

    @property
    def update_to_weight(self) -> float:
        """Root mean square of the change over that of the values; NaN for values that are all 0."""
        return self.update_norm / self.norm if self.norm > 0 else math.nan

    def values(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "norm": self.norm,
            "grad_norm": self.grad_norm,
            "update_to_weight": self.update_to_weight,
        }


def together(parts: Iterable[ParameterValues]) -> ParameterValues:
    """The same of all ``parts`` as one long vector."""
    parts = list(parts)
    norms = (math.hypot(*(getattr(p, key) for p in parts)) for key in ("norm", "grad_norm", "update_norm"))
    return ParameterValues(sum(p.count for p in parts), *norms)


def parameter_values(
    network: nn.Module,
    make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
    clip: Callable[[list[nn.Parameter]], object],
) -> dict[str, ParameterValues]:
    """Norms of every parameter that has a gradient, and of the step that would be taken with it.

    The step is the first one of a new optimizer, after clipping: what training does from here when its
    moments are forgotten. For Adam that is lr in nearly every number, an upper bound of what it does with
    moments; for SGD it is lr times the (clipped) gradient. The network is left as it was.

    Args:
        network: with gradients. clip: changes them in place.
    """
    parameters = {name: p for name, p in network.named_parameters() if p.grad is not None}
    gradients = {name: p.grad.detach().clone() for name, p in parameters.items() if p.grad is not None}
    before = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = make_optimizer(parameters.values())
    clip(list(parameters.values()))
    optimizer.step()
    found = {}
    with torch.no_grad():
        for name, p in parameters.items():
            change = _norm(p - before[name])
            found[name] = ParameterValues(p.numel(), _norm(before[name]), _norm(gradients[name]), change)
            p.copy_(before[name])
            p.grad = gradients[name]
    return found


def gains(network: nn.Module) -> Iterator[tuple[str, str, nn.Parameter]]:
    """Name, kind and values of what scales a residual update.

    ``norm``: the weight of a normalisation. ``layerscale``: a parameter that a module made of other
    modules has itself.
    """
    for prefix, module in network.named_modules():
        composed = next(module.children(), None) is not None
        for name, parameter in module.named_parameters(recurse=False):
            full_name = f"{prefix}.{name}" if prefix else name
            if isinstance(module, _NORMS) and name == "weight":
                yield full_name, "norm", parameter
            elif composed:
                yield full_name, "layerscale", parameter


def _norm(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values.detach().double()))

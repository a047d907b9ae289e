"""What the parameters of a network are, and what one step of training would do to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


class Norms(NamedTuple):
    """Of a parameter, or of several as one long vector: how many numbers, and Euclidean norms."""

    size: int
    norm: float
    grad_norm: float
    update_norm: float
    """Of what one optimizer step changes."""

    @classmethod
    def together(cls, parts: Iterable[Norms]) -> Norms:
        sizes, *norms = zip(*parts, strict=True)
        return cls(sum(sizes), *(math.hypot(*each) for each in norms))

    def values(self) -> dict[str, Any]:
        """``update_to_weight``: root mean square of the change over that of the values; NaN if all are 0."""
        return {
            "count": self.size,
            "norm": self.norm,
            "grad_norm": self.grad_norm,
            "update_to_weight": self.update_norm / self.norm if self.norm > 0 else math.nan,
        }


def parameter_values(
    network: nn.Module,
    make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
    clip: Callable[[list[nn.Parameter]], object],
) -> dict[str, Norms]:
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
            found[name] = Norms(p.numel(), _norm(before[name]), _norm(gradients[name]), change)
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

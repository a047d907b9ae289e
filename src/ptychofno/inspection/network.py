"""One network on some patterns, as plain values: its layers, its parameters, and a step of training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from ptychofno.inspection.layers import LayerRecorder, stages
from ptychofno.runs.stats import gain_values

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)

Norms = tuple[int, float, float, float]
"""Of a parameter: how many numbers, and Euclidean norms of these, their gradient, and one step's change."""


def inspect_network(
    network: nn.Module,
    amplitude: Tensor,
    loss: Callable[..., Tensor],
    *,
    make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
    clip: Callable[[list[nn.Parameter]], object],
    spectral: tuple[type[nn.Module], ...],
    batch_size: int,
    positions_px: Tensor | None = None,
) -> dict[str, Any]:
    """Statistics of activations, gradients and gains; the network is left as it was, in evaluation mode.

    The step is the first one of a new optimizer, after clipping: what training does from here when its
    moments are forgotten. For Adam that is lr in nearly every number, an upper bound of what it does with
    moments; for SGD it is lr times the (clipped) gradient.

    Args:
        amplitude: measured, (n, C, N, N), where the network is. The gradient is that of the mean loss
            over all n patterns.
        loss: of a batch of them, and of its positions where there are some, a mean; runs the network.
        clip: changes gradients in place. spectral: see ``LayerRecorder``.
        batch_size: for memory; it does not change the result. positions_px: (n, C, 2).

    Returns:
        ``loss``; ``layers``, those of ``Layer.values`` and of its parameters together, in the order in
        which they run, ``stage`` telling what the network runs itself from the parts of that;
        ``parameters``; ``gains``.
    """
    samples = (amplitude,) if positions_px is None else (amplitude, positions_px)
    batches = list(zip(*(one.split(batch_size) for one in samples), strict=True))
    network.eval()
    network.zero_grad(set_to_none=True)
    recorder = LayerRecorder(network, spectral, len(batches))
    total = 0.0
    with recorder.recording():
        for batch, *where in batches:
            # With a history of its own, its sum with an update is known as one from the first layer on.
            part = loss(batch.detach().requires_grad_().clone(), *where) * (len(batch) / len(amplitude))
            part.backward()
            total += float(part.detach())
    parameters = _parameter_norms(network, make_optimizer, clip)
    network.zero_grad(set_to_none=True)
    gains = [{"name": name, "kind": kind, **gain_values(p)} for name, kind, p in _gains(network)]
    whole = set(stages(network))
    layers = [
        {
            **layer.values(),
            "stage": layer.name in whole,
            **_of_parameters(f"{layer.name}.", parameters),
            "layerscale": _mean_gain(f"{layer.name}.", "layerscale", gains),
            "norm_weight": _mean_gain(f"{layer.name}.", "norm", gains),
        }
        for layer in recorder.layers
    ]
    told = [
        {"name": name, "shape": list(network.get_parameter(name).shape), **_together([norms])}
        for name, norms in parameters.items()
    ]
    return {"loss": total, "layers": layers, "parameters": told, "gains": gains}


def _of_parameters(prefix: str, parameters: Mapping[str, Norms]) -> dict[str, Any]:
    own = _together([norms for name, norms in parameters.items() if name.startswith(prefix)])
    return {"parameters": own.pop("count"), "weight_norm": own.pop("norm"), **own}


def _together(parts: Sequence[Norms]) -> dict[str, Any]:
    """Parameters as one long vector; None without any.

    ``update_to_weight``: root mean square of the change over that of the values; NaN if all are 0.
    """
    if not parts:
        return {"count": 0, **dict.fromkeys(("norm", "grad_norm", "update_to_weight"))}
    sizes, *norms = zip(*parts, strict=True)
    norm, grad_norm, step = (math.hypot(*each) for each in norms)
    update = step / norm if norm > 0 else math.nan
    return {"count": sum(sizes), "norm": norm, "grad_norm": grad_norm, "update_to_weight": update}


def _mean_gain(prefix: str, kind: str, gains: Sequence[Mapping[str, Any]]) -> float | None:
    means = [gain["mean"] for gain in gains if gain["kind"] == kind and gain["name"].startswith(prefix)]
    return sum(means) / len(means) if means else None


def _parameter_norms(
    network: nn.Module,
    make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
    clip: Callable[[list[nn.Parameter]], object],
) -> dict[str, Norms]:
    """Norms of every parameter that has a gradient, and of the step that would be taken with it."""
    parameters = {name: p for name, p in network.named_parameters() if p.grad is not None}
    grad_norms = {name: _norm(p.grad) for name, p in parameters.items() if p.grad is not None}
    before = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = make_optimizer(parameters.values())
    clip(list(parameters.values()))
    optimizer.step()
    found = {}
    with torch.no_grad():
        for name, p in parameters.items():
            found[name] = p.numel(), _norm(before[name]), grad_norms[name], _norm(p - before[name])
            p.copy_(before[name])
    return found


def _gains(network: nn.Module) -> Iterator[tuple[str, str, nn.Parameter]]:
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

"""One network on some patterns, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from ptychofno.inspection.layers import LayerRecorder, stages
from ptychofno.inspection.parameters import Norms, gains, parameter_values
from ptychofno.runs.stats import gain_values


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

    Args:
        amplitude: measured, (n, C, N, N), where the network is. The gradient is that of the mean loss
            over all n patterns.
        loss: of a batch of them, and of its positions where there are some, a mean; runs the network.
        make_optimizer, clip: see ``parameter_values``. spectral: see ``LayerRecorder``.
        batch_size: patterns per forward pass, for memory; it does not change the result.
        positions_px: (n, C, 2), of patterns that share an object.

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
    parameters = parameter_values(network, make_optimizer, clip)
    network.zero_grad(set_to_none=True)
    gained = [{"name": name, "kind": kind, **gain_values(p)} for name, kind, p in gains(network)]
    whole = set(stages(network))
    return {
        "loss": total,
        "layers": [
            {
                **layer.values(),
                "stage": layer.name in whole,
                **_of_parameters(layer.name, parameters),
                **_of_gains(layer.name, gained),
            }
            for layer in recorder.layers
        ],
        "parameters": [
            {"name": name, "shape": list(network.get_parameter(name).shape), **found.values()}
            for name, found in parameters.items()
        ],
        "gains": gained,
    }


def _of_parameters(layer: str, parameters: Mapping[str, Norms]) -> dict[str, Any]:
    """The values of all parameters of a layer together; None for a layer without any."""
    own = [norms for name, norms in parameters.items() if name.startswith(f"{layer}.")]
    values = Norms.together(own).values() if own else {"count": 0}
    names = {"parameters": "count", "weight_norm": "norm"}
    names |= {key: key for key in ("grad_norm", "update_to_weight")}
    return {key: values.get(name) for key, name in names.items()}


def _of_gains(layer: str, gained: list[dict[str, Any]]) -> dict[str, float | None]:
    """Mean size of the gains of each kind in a layer; None for a layer without any."""
    found: dict[str, float | None] = {}
    for kind in ("layerscale", "norm"):
        means = [g["mean"] for g in gained if g["kind"] == kind and g["name"].startswith(f"{layer}.")]
        found["norm_weight" if kind == "norm" else kind] = sum(means) / len(means) if means else None
    return found

"""What every layer of a network does to a batch, recorded by hooks, so that no layer has to be changed.

A *layer* is a module that turns features into features (B, C, H, W); a *stage* is one of those that
the network itself runs one after the other: its children, and the entries of its lists of modules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ptychofno.inspection.statistics import MapStatistics

ZERO = 1e-3
"""A GELU output smaller than this counts as zero: its input was below -3.4, or within 0.002 of 0."""

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


class Layer:
    """What was recorded of one module.

    Attributes:
        output: statistics of what it returned.
        residual: whether it returned its input plus something else.
        powers: sums of squares: of ``input`` and ``update`` (output less input) of a residual module,
            and of the ``spectral`` and ``local`` branches in it.
        gelus, zeros: values that a GELU in it returned, and those of them that count as zero.
    """

    def __init__(self, name: str, module: nn.Module, batches: int) -> None:
        self.name, self.module = name, module
        self.output = MapStatistics(batches)
        self.residual = False
        self.powers = dict.fromkeys(("input", "update", "spectral", "local"), 0.0)
        self.gelus = self.zeros = 0

    def values(self) -> dict[str, Any]:
        """Plain values; None where a quantity does not apply to this layer, NaN where it has no value.

        With sums over all patterns, channels and pixels:
        ``gelu_zero_fraction``: share of GELU outputs y with |y| < ``ZERO``.
        ``spectral_to_local``: sqrt(sum s^2 / sum l^2) of the spectral branch s and the local one l.
        ``update_to_input``: sqrt(sum (y - x)^2 / sum x^2) of a module that returns y = x + something.
        The others: ``MapStatistics.values``.
        """
        powers = self.powers
        branched = powers["spectral"] + powers["local"] > 0
        return {
            "name": self.name,
            "type": type(self.module).__name__,
            "shape": list(self.output.shape),
            **self.output.values(),
            "gelu_zero_fraction": self.zeros / self.gelus if self.gelus else None,
            "spectral_to_local": _root_ratio(powers["spectral"], powers["local"]) if branched else None,
            "update_to_input": _root_ratio(powers["update"], powers["input"]) if self.residual else None,
        }


class LayerRecorder:
    """Records what the layers of ``network`` do while the context of ``recording`` is open.

    Args:
        spectral: classes of spectral convolutions. Where a module has one as a child, and convolutions
            (``nn.Conv2d``) that return the same shape beside it, those are its two branches.
        batches: how many forward passes there will be.
    """

    def __init__(self, network: nn.Module, spectral: tuple[type[nn.Module], ...], batches: int) -> None:
        self.network, self.spectral, self.batches = network, spectral, batches
        self._layers: dict[str, Layer] = {}
        self._running: list[Layer] = []
        self._branches = frozenset(_branches(network, spectral))
        self._returned: dict[str, Tensor] = {}

    @property
    def layers(self) -> list[Layer]:
        """Every module that returned maps (B, C, H, W), in the order in which they began."""
        return [layer for layer in self._layers.values() if layer.output.shape != (0, 0, 0)]

    @contextmanager
    def recording(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name, module in self.network.named_modules():
                if name and not isinstance(module, _CONTAINERS):
                    before = partial(self._before, name)
                    stack.callback(module.register_forward_pre_hook(before).remove)
                    stack.callback(module.register_forward_hook(self._after).remove)
            stack.enter_context(_GeluMode(self._on_gelu))
            yield

    def _before(self, name: str, module: nn.Module, inputs: Any) -> None:
        layer = self._layers.setdefault(name, Layer(name, module, self.batches))
        self._running.append(layer)

    def _after(self, module: nn.Module, inputs: Any, output: Any) -> None:
        layer = self._running.pop()
        if not isinstance(output, Tensor) or output.ndim != 4 or not output.is_floating_point():
            return
        layer.output.add(output)
        if layer.name in self._branches:
            self._returned[layer.name] = output.detach()
        self._add_branches(layer, module)
        if len(inputs) == 1 and isinstance(inputs[0], Tensor) and _adds_to(inputs[0], output):
            layer.residual = True
            layer.powers["input"] += _power(inputs[0])
            layer.powers["update"] += _power(output.detach() - inputs[0].detach())

    def _add_branches(self, layer: Layer, module: nn.Module) -> None:
        children = [
            (self._returned.pop(f"{layer.name}.{name}", None), c) for name, c in module.named_children()
        ]
        spectral = [out for out, child in children if out is not None and isinstance(child, self.spectral)]
        shapes = {out.shape for out in spectral}
        local = [
            out
            for out, child in children
            if out is not None and isinstance(child, nn.Conv2d) and out.shape in shapes
        ]
        if spectral and local:
            for around in (*self._running, layer):
                around.powers["spectral"] += sum(map(_power, spectral))
                around.powers["local"] += sum(map(_power, local))

    def _on_gelu(self, output: Tensor) -> None:
        zeros = int((output.detach().abs() < ZERO).sum())
        for layer in self._running:
            layer.gelus += output.numel()
            layer.zeros += zeros


def stages(network: nn.Module, prefix: str = "") -> list[str]:
    """Names of the modules that ``network`` runs itself: its children, lists of modules spelt out."""
    found = []
    for name, child in network.named_children():
        inner = isinstance(child, _CONTAINERS)
        found += stages(child, f"{prefix}{name}.") if inner else [f"{prefix}{name}"]
    return found


def _branches(network: nn.Module, spectral: tuple[type[nn.Module], ...]) -> Iterator[str]:
    """Names of spectral convolutions and of the convolutions beside them."""
    for prefix, module in network.named_modules():
        children = dict(module.named_children())
        if any(isinstance(child, spectral) for child in children.values()):
            for name, child in children.items():
                if isinstance(child, (*spectral, nn.Conv2d)):
                    yield f"{prefix}.{name}" if prefix else name


class _GeluMode(TorchFunctionMode):
    """Tells what every GELU returns, be it a module or a function."""

    def __init__(self, seen: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.gelu:
            self.seen(result)
        return result


def _adds_to(x: Tensor, output: Tensor) -> bool:
    """Whether ``output`` is the sum of ``x`` and something else, as autograd recorded it."""
    last = output.grad_fn
    if last is None or x.grad_fn is None or not last.name().startswith("AddBackward"):
        return False
    return output.shape == x.shape and (x.grad_fn, x.output_nr) in last.next_functions


def _power(values: Tensor) -> float:
    return float(values.detach().double().square().sum())


def _root_ratio(numerator: float, denominator: float) -> float:
    return math.sqrt(numerator / denominator) if denominator > 0 else math.nan

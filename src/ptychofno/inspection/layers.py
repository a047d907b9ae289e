"""What every layer of a network does to a batch, recorded by hooks, so that no layer has to be changed.

A *layer* is a module that turns features into features (B, C, H, W); a *stage* is one of those that
the network itself runs one after the other: its children, and the entries of its lists of modules.
"""

from __future__ import annotations

import math
from collections import defaultdict
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
    """What was recorded of one module: its output, and sums of squares of what goes into it.

    ``input`` and ``update`` (output less input) are those of a module that returned its input plus something
    else, ``spectral`` and ``local`` those of the two branches in it.
    """

    def __init__(self, name: str, module: nn.Module, batches: int) -> None:
        self.name, self.module = name, module
        self.output = MapStatistics(batches)
        self.powers: dict[str, float] = defaultdict(float)
        self.gelus = self.zeros = 0

    def values(self) -> dict[str, Any]:
        """Plain values; None where a quantity does not apply to this layer, NaN where it has no value.

        ``gelu_zero_fraction``: share of GELU outputs y with |y| < ``ZERO``. Over all patterns, channels and
        pixels, ``spectral_to_local``: sqrt(sum s^2 / sum l^2) of the branches s and l; ``update_to_input``:
        sqrt(sum (y - x)^2 / sum x^2). The others: ``MapStatistics.values``.
        """
        return {
            "name": self.name,
            "type": type(self.module).__name__,
            "shape": list(self.output.shape),
            **self.output.values(),
            "gelu_zero_fraction": self.zeros / self.gelus if self.gelus else None,
            "spectral_to_local": self._root_ratio("spectral", "local"),
            "update_to_input": self._root_ratio("update", "input"),
        }

    def _root_ratio(self, numerator: str, denominator: str) -> float | None:
        below = self.powers.get(denominator)
        if below is None:
            return None
        return math.sqrt(self.powers[numerator] / below) if below > 0 else math.nan


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
        self._returned: dict[nn.Module, tuple[tuple[int, ...], float]] = {}

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
        self._running.append(self._layers.setdefault(name, Layer(name, module, self.batches)))

    def _after(self, module: nn.Module, inputs: Any, output: Any) -> None:
        layer = self._running.pop()
        if not isinstance(output, Tensor) or output.ndim != 4 or not output.is_floating_point():
            return
        layer.output.add(output)
        if isinstance(module, (*self.spectral, nn.Conv2d)):
            self._returned[module] = (tuple(output.shape), _power(output))
        self._add_branches(layer, module)
        if len(inputs) == 1 and isinstance(inputs[0], Tensor) and _adds_to(inputs[0], output):
            layer.powers["input"] += _power(inputs[0])
            layer.powers["update"] += _power(output.detach() - inputs[0].detach())

    def _add_branches(self, layer: Layer, module: nn.Module) -> None:
        found = [
            (child, *self._returned.pop(child)) for child in module.children() if child in self._returned
        ]
        spectral = [(shape, power) for child, shape, power in found if isinstance(child, self.spectral)]
        shapes = {shape for shape, _ in spectral}
        local = [power for child, shape, power in found if isinstance(child, nn.Conv2d) and shape in shapes]
        if spectral and local:
            for around in (*self._running, layer):
                around.powers["spectral"] += sum(power for _, power in spectral)
                around.powers["local"] += sum(local)

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

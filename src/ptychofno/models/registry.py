"""Networks from plain values: the same way for training and for weights read from a file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from torch import nn

Find = Callable[[str], Callable[..., Any]]
"""From a ``_target_`` to what it names."""


def made(function: Callable[..., Any], context: Mapping[str, Any], **settings: Any) -> Any:
    """``function`` of its settings and of those entries of ``context`` that it has parameters for."""
    named = _parameters(function)
    taken = {name: value for name, value in context.items() if name in named and name not in settings}
    return function(**taken, **settings)


def _parameters(function: Callable[..., Any]) -> set[str]:
    """Names of the parameters; of a class that hands ``**settings`` on, those of its base, too."""
    if isinstance(function, partial):
        return _parameters(function.func) - set(function.keywords)
    found: set[str] = set()
    for one in function.__mro__ if isinstance(function, type) else [function]:
        parameters = inspect.signature(one).parameters
        found |= set(parameters)
        if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            break
    return found


def part(node: Mapping[str, Any], find: Find) -> Callable[..., Any]:
    """The class or function of a plain node with its settings, to be called with the rest."""
    settings = {key: value for key, value in node.items() if key not in ("_target_", "_partial_")}
    return partial(find(str(node["_target_"])), **settings)


def of_ours(target: str) -> Callable[..., Any]:
    """A module class of this package, whoever wrote the ``target``. Raises ValueError for anything else."""
    home, _, name = target.rpartition(".")
    found = getattr(import_module(home), name, None) if home in _HOMES else None
    if not (isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ in _HOMES):
        raise ValueError(f"model class {target!r} is not one of ours")
    return found


_HOMES = (
    "ptychofno.models",
    *(f"ptychofno.models.{name}" for name in ("blocks", "generators", "inputs", "outputs")),
)


def build_generator(config: Mapping[str, Any], find: Find = of_ours, **context: Any) -> nn.Module:
    """The network of a plain model config, a tree of ``_target_`` and settings.

    Each part takes from ``context`` what its signature names.

    Args:
        config: the model group's resolved values. Its parts are made before it, ``block`` once per level.
        find: from a ``_target_`` to its class; by default of this package's classes only.
        context: what belongs to the data: ``size`` N; ``patches`` C; ``probe``, complex64 (N, N);
            ``rms_amplitude`` of the training patterns; ``valid``, 1 where a detector pixel is valid, else 0,
            (N, N), or None; ``back_project`` and ``project``, the physics of ``models.inputs`` and
            ``models.outputs``.
    """
    settings: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and "_target_" in value:
            value = part(value, find)
            value = value if key == "block" else made(value, context)
        if not key.startswith("_"):
            settings[key] = value
    network: nn.Module = made(find(str(config["_target_"])), context, **settings)
    return network

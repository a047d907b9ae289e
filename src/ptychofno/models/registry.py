"""Networks from plain values: the same way for training and for weights read from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from ptychofno.models import blocks, generators, inputs, outputs
from ptychofno.models.inputs import BackProjector
from ptychofno.models.outputs import Projector

_KNOWN: dict[str, Callable[..., Any]] = {
    f"ptychofno.models.{name}": getattr(module, name)
    for module, names in (
        (blocks, ("PtychoBlock", "StablePtychoBlock")),
        (inputs, ("AmplitudeInput", "BackprojectionInput")),
        (outputs, ("PatchOutput", "ProjectedOutput")),
        (
            generators,
            ("HybridUNOGenerator", "StableHybridUNOGenerator", "CascadedFNOGenerator", "CNNGenerator"),
        ),
    )
    for name in names
}


def known_class(target: str) -> Callable[..., Any]:
    """The class of ours behind a ``_target_``; anything else is refused, whoever wrote the file."""
    if target not in _KNOWN:
        raise ValueError(f"model class {target!r} is not one of ours: {', '.join(sorted(_KNOWN))}")
    return _KNOWN[target]


def build_generator(
    config: Mapping[str, Any],
    *,
    size: int,
    patches: int,
    probe: Tensor,
    rms_amplitude: float,
    back_project: BackProjector,
    project: Projector,
    find: Callable[[str], Callable[..., Any]] = known_class,
) -> nn.Module:
    """The network of a plain model config (a tree of ``_target_`` and arguments).

    Args:
        config: the model group's resolved values.
        size: N. patches: C. probe: complex64 (N, N). rms_amplitude: of the training patterns.
        back_project: see ``inputs.BackprojectionInput``. project: see ``outputs.ProjectedOutput``.
        find: from a ``_target_`` to its class. The default knows this package's classes only.
            Training passes one that also finds a user's own block.
    """

    def part(node: Mapping[str, Any]) -> Callable[..., Any]:
        arguments = {key: value for key, value in node.items() if key not in ("_target_", "_partial_")}
        return partial(find(node["_target_"]), **arguments)

    arguments: dict[str, Any] = {
        key: value for key, value in config.items() if key not in ("_target_", "block", "inputs", "output")
    }
    if "block" in config:
        arguments["block_cls"] = part(config["block"])
    if "output" in config:
        arguments["output"] = part(config["output"])(probe=probe, project=project)
    features = part(config["inputs"])(probe=probe, rms_amplitude=rms_amplitude, back_project=back_project)
    return find(config["_target_"])(inputs=features, patches=patches, size=size, **arguments)

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
        (generators, ("HybridUNOGenerator", "CascadedFNOGenerator", "CNNGenerator")),
    )
    for name in names
}
# As networks of earlier runs call it; its block is a setting of its own.
_KNOWN["ptychofno.models.StableHybridUNOGenerator"] = generators.HybridUNOGenerator


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
    valid: Tensor | None = None,
    find: Callable[[str], Callable[..., Any]] = known_class,
) -> nn.Module:
    """The network of a plain model config (a tree of ``_target_`` and arguments).

    Args:
        config: the model group's resolved values.
        size: N. patches: C; with ``neighbours: single`` the network is made for one at a time.
        probe: complex64 (N, N). rms_amplitude: of the training patterns.
        back_project: see ``inputs.BackprojectionInput``. project: see ``outputs.ProjectedOutput``.
        valid: 1 where a detector pixel is valid, else 0, (N, N); None where all are.
        find: from a ``_target_`` to its class. The default knows this package's classes only.
            Training passes one that also finds a user's own block.
    """

    def part(node: Mapping[str, Any]) -> Callable[..., Any]:
        arguments = {key: value for key, value in node.items() if key not in ("_target_", "_partial_")}
        return partial(find(node["_target_"]), **arguments)

    own = ("_target_", "block", "inputs", "output", "neighbours")
    arguments: dict[str, Any] = {key: value for key, value in config.items() if key not in own}
    of_data: dict[str, Any] = {"probe": probe} if valid is None else {"probe": probe, "valid": valid}
    if config.get("neighbours") == "single":
        patches = 1
    if "block" in config:
        arguments["block_cls"] = part(config["block"])
    if "output" in config:
        arguments["output"] = part(config["output"])(project=project, **of_data)
    features = part(config["inputs"])(rms_amplitude=rms_amplitude, back_project=back_project, **of_data)
    return find(config["_target_"])(inputs=features, patches=patches, size=size, **arguments)

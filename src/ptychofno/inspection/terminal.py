"""The layers of networks in a terminal: as much as fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from rich.console import Console
from rich.text import Text

from ptychofno.display.text import formatted, print_fitting

_QUANTITIES = {
    "mean": "mean",
    "std": "std",
    "abs_q50": "|a| 50 %",
    "abs_q95": "95 %",
    "abs_q99": "99 %",
    "gelu_zero_fraction": "zeros",
    "dc_share": "DC",
    "low_frequency_share": "low freq.",
    "effective_rank": "rank",
    "spectral_to_local": "spec/local",
    "update_to_input": "update/in",
    "layerscale": "layerscale",
    "norm_weight": "norm",
    "grad_norm": "gradient",
    "update_to_weight": "step/weight",
}
# While there is room, these before all others.
_FIRST: tuple[str, ...] = ("std", "abs_q99", "low_frequency_share", "effective_rank", "spectral_to_local")
_FIRST += ("update_to_input", "grad_norm", "update_to_weight", "gelu_zero_fraction", "dc_share")


def show(console: Console, networks: Sequence[Mapping[str, Any]], *, parts: bool) -> None:
    """For every network a line and one row per layer.

    Args:
        networks: as written to JSON. parts: also the layers within a stage.
    """
    for network, letter in zip(networks, letters_of(networks), strict=True):
        about = (
            f": {network['model']} on {network['patterns']} training patterns of {network['dataset']},"
            f" loss {formatted(network['loss'], '{:.3g}')}"
        )
        title = f"{letter}  {network['title']}" if letter else network["title"]
        console.print(Text.assemble((title, "bold"), about), soft_wrap=True)
        rows = [
            {"layer": layer["name"], "shape": "×".join(map(str, layer["shape"]))}
            | {label: _cell(layer[key]) for key, label in _QUANTITIES.items()}
            for layer in network["layers"]
            if parts or layer["stage"]
        ]
        left = print_fitting(console, rows, ("layer", "shape", *(_QUANTITIES[key] for key in _FIRST)))
        if left:
            console.print(f"no room for {', '.join(left)}: see the JSON file", style="dim", soft_wrap=True)
    console.print("--help says what the columns are", style="dim", soft_wrap=True)


def letters_of(networks: Sequence[Any]) -> list[str]:
    """A, B, … for several networks, nothing for a single one."""
    if len(networks) == 1:
        return [""]
    return [ascii_uppercase[i] if i < 26 else str(i + 1) for i in range(len(networks))]


def _cell(value: float | None) -> str:
    return "" if value is None else formatted(value, "{:.3g}")

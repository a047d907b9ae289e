"""The layers of one network, or of several side by side, in a terminal: as much as fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from string import ascii_uppercase
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ptychofno.display.text import fitting, formatted

_GAP = 2
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
    """A line on every network, then one row per layer.

    Args:
        networks: as written to JSON. parts: also the layers within a stage.
    """
    letters = letters_of(networks)
    for network, letter in zip(networks, letters, strict=True):
        about = (
            f": {network['model']} on {network['patterns']} training patterns of {network['dataset']},"
            f" loss {formatted(network['loss'], '{:.3g}')}"
        )
        title = f"{letter}  {network['title']}" if letter else network["title"]
        console.print(Text.assemble((title, "bold"), about), soft_wrap=True)
    names = common_order([[x["name"] for x in n["layers"] if parts or x["stage"]] for n in networks])
    layers = [{layer["name"]: layer for layer in network["layers"]} for network in networks]
    blocks = {"layer": [["layer", *names]]}
    if len(networks) == 1:
        blocks["shape"] = [["shape", *("×".join(map(str, layers[0][name]["shape"])) for name in names)]]
    first = [*blocks]
    for key, label in _QUANTITIES.items():
        cells = [[_cell(own.get(name), key) for name in names] for own in layers]
        headings = [
            f"{'' if i else label}\n{letter}" if letter else label for i, letter in enumerate(letters)
        ]
        if any(map(any, cells)):
            blocks[key] = [[heading, *column] for heading, column in zip(headings, cells, strict=True)]
    widths = {key: sum(map(_width, block)) for key, block in blocks.items()}
    chosen = fitting(widths, console.width, (*first, *_FIRST))
    printed = [column for key in chosen for column in blocks[key]]
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for index, column in enumerate(printed):
        table.add_column(Text(column[0]), justify="left" if index < len(first) else "right", no_wrap=True)
    for row in zip(*(column[1:] for column in printed), strict=True):
        table.add_row(*map(Text, row))
    console.print(table)
    console.print(Text("--help says what the columns are", style="dim"), soft_wrap=True)
    if left := ", ".join(_QUANTITIES[key] for key in blocks if key not in chosen):
        console.print(Text(f"no room for {left}: see the JSON file", style="dim"), soft_wrap=True)


def letters_of(networks: Sequence[Any]) -> list[str]:
    """A, B, … for several networks, nothing for a single one."""
    if len(networks) == 1:
        return [""]
    return [ascii_uppercase[i] if i < 26 else str(i + 1) for i in range(len(networks))]


def common_order(lists: Sequence[Sequence[str]]) -> list[str]:
    """All names, each list's in its own order as far as the earlier lists allow."""
    order: list[str] = []
    for names in lists:
        for before, name in pairwise(["", *names]):
            if name not in order:
                order.insert(order.index(before) + 1 if before else 0, name)
    return order


def _cell(layer: Mapping[str, Any] | None, key: str) -> str:
    value = layer[key] if layer else None
    return "" if value is None else formatted(value, "{:.3g}")


def _width(column: Sequence[str]) -> int:
    return max(len(line) for cell in column for line in cell.split("\n")) + _GAP

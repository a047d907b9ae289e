"""The layers of one network, or of several side by side, in a terminal: as much as fits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from string import ascii_uppercase
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ptychofno.display.text import fitting

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
_FIRST = (
    "std",
    "abs_q99",
    "low_frequency_share",
    "effective_rank",
    "spectral_to_local",
    "update_to_input",
    "grad_norm",
    "update_to_weight",
    "gelu_zero_fraction",
    "dc_share",
)


def show(console: Console, networks: Sequence[Mapping[str, Any]], *, parts: bool) -> None:
    """A line on every network, then one row per layer.

    Args:
        networks: as written to JSON. parts: also the layers within a stage.
    """
    letters = letters_of(networks)
    for network, letter in zip(networks, letters, strict=True):
        console.print(
            Text.assemble(
                (f"{letter}  " if letter else "", "bold"), (network["title"], "bold"), _about(network)
            ),
            soft_wrap=True,
        )
    names = common_order([[x["name"] for x in n["layers"] if parts or x["stage"]] for n in networks])
    layers = [{layer["name"]: layer for layer in network["layers"]} for network in networks]
    head = [["layer", *names]]
    if len(networks) == 1:
        head.append(["shape", *("×".join(map(str, layers[0][name]["shape"])) for name in names)])
    columns = {
        key: [
            [
                f"{label if i == 0 else ''}\n{letter}" if letter else label,
                *(_cell(own, n, key) for n in names),
            ]
            for i, (own, letter) in enumerate(zip(layers, letters, strict=True))
        ]
        for key, label in _QUANTITIES.items()
    }
    known = [key for key, group in columns.items() if any(cell for column in group for cell in column[1:])]
    room = console.width - sum(map(_width, head))
    chosen = fitting({key: sum(map(_width, columns[key])) for key in known}, room, _FIRST)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    printed = [*head, *(column for key in chosen for column in columns[key])]
    for index, column in enumerate(printed):
        table.add_column(Text(column[0]), justify="left" if index < len(head) else "right", no_wrap=True)
    for row in zip(*(column[1:] for column in printed), strict=True):
        table.add_row(*map(Text, row))
    console.print(table)
    console.print(Text("--help says what the columns are", style="dim"), soft_wrap=True)
    if len(chosen) < len(known):
        left = ", ".join(_QUANTITIES[key] for key in known if key not in chosen)
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


def _about(network: Mapping[str, Any]) -> str:
    return (
        f": {network['model']} on {network['patterns']} training patterns of {network['dataset']},"
        f" loss {_number(network['loss'])}"
    )


def _width(column: Sequence[str]) -> int:
    return max(len(line) for cell in column for line in cell.split("\n")) + _GAP


def _cell(layers: Mapping[str, Mapping[str, Any]], name: str, key: str) -> str:
    value = layers[name][key] if name in layers else None
    return "" if value is None else _number(value)


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "–"

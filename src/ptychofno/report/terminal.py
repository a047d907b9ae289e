"""The report in a terminal: warnings, as much of the table as fits, the verdict."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ptychofno.display.text import fitting
from ptychofno.report.study import Study
from ptychofno.report.tables import columns
from ptychofno.report.wording import NONE

_GAP = 2
_FIRST = ("", "arm", "crashed (95 %)", "judgement")
"""Shown in any width; the others follow while there is room, these before all others."""
_NEXT = ("validation loss", "SSIM amplitude", "SSIM phase", "held-out error", "runs")
_SHORTER = {"validation loss": "val. loss", "training time / s": "time / s"}


def show(console: Console, study: Study) -> None:
    for warning in study.warnings:
        console.print(Text(f"! {warning}", style="yellow"), soft_wrap=True)
    rows = [columns(standing) for standing in study.verdict.standings]
    widths = {key: max(len(_SHORTER.get(key, key)), *(len(row[key]) for row in rows)) for key in rows[0]}
    optional = {
        key: width + _GAP
        for key, width in widths.items()
        if key not in _FIRST and any(row[key] != NONE for row in rows)
    }
    room = console.width - sum(widths[key] + _GAP for key in _FIRST)
    chosen = {*_FIRST, *fitting(optional, room, _NEXT)}
    kept = [key for key in widths if key in chosen]
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for key in kept:
        table.add_column(Text(_SHORTER.get(key, key)), no_wrap=key != "judgement", overflow="fold")
    for row, standing in zip(rows, study.verdict.standings, strict=True):
        winner = standing.arm is study.verdict.candidate
        style = "bold" if winner else "dim" if standing.rank is None else ""
        table.add_row(*(Text(row[key], style=style) for key in kept))
    console.print(table)
    console.print()
    console.print(Text(study.verdict.headline, style="bold"), soft_wrap=True)
    for sentence in study.verdict.sentences:
        console.print(Text(sentence), soft_wrap=True)

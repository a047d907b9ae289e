"""The report as one HTML file that needs nothing else: no network, no other file, no foreign script."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files

from ptychofno.report import charts
from ptychofno.report.arms import Arm
from ptychofno.report.pictures import Gallery, Picture, galleries
from ptychofno.report.runs import MEASURES
from ptychofno.report.study import Study
from ptychofno.report.svg import tick_label
from ptychofno.report.tables import DEFINITIONS, columns, readable_differences, run_cells
from ptychofno.report.wording import NONE, counted, seconds, shown

_MAIN = ("", "arm", "runs", "crashed (95 %)", "validation loss", "SSIM amplitude", "SSIM phase", "judgement")
_DOTS_ABREAST = 4


def page(study: Study) -> str:
    """The whole document. Every text that comes from a run is escaped; the policy in its head lets no
    script run but the report's own, whatever a text holds, and nothing be fetched."""
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    digest = b64encode(sha256(script.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    body = "\n".join(
        (
            _head(study),
            _section("Ranking", _main_table(study), _all_measures(study)),
            _section(
                "Crash rates",
                _scrolled(charts.crash_rates(study)),
                note="Collapsed or diverged runs among those with a result; bars: Wilson's 95 % interval. "
                "Shaded: the control's.",
            ),
            _section(
                "Every run",
                *(
                    _scrolled(charts.measures(study, MEASURES[first : first + _DOTS_ABREAST]))
                    for first in range(0, len(MEASURES), _DOTS_ABREAST)
                ),
                note="One dot per seed, open and red when the run crashed; a triangle where that lies beyond "
                "the axis. Bar and tick: quartiles and median of the successful runs.",
            ),
            _section(
                "Validation loss",
                _scrolled(charts.loss_overview(study)),
                note="Median over the successful seeds of each arm that has some, by epoch. Dashed: the best "
                "flat object. Point at a curve or a name to bring it out.",
            ),
            _section(
                "Curves",
                _curves(study),
                note="Median and, shaded, the whole range over the successful seeds, by epoch. Red: single "
                "crashed runs. Grey: the control. Dashed: the flat object's loss, and the largest gradient "
                "norm of an epoch. All arms share their axes.",
            ),
            *(_reconstructions(gallery) for gallery in galleries(study.arms)),
            _differences(study),
            _section("All runs", _details("Show every run", _runs_table(study))),
            _section("How it is counted", _list(DEFINITIONS)),
        )
    )
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(study.name)}</title><style>\n{style}</style></head>\n"
        f"<body><main>\n{body}\n</main><script>{script}</script></body></html>\n"
    )


def _head(study: Study) -> str:
    runs = sum(len(arm.runs) for arm in study.arms)
    spent = sum(float(arm.values("training_seconds").sum()) for arm in study.arms)
    facts = (
        f"{counted(len(study.arms), 'arm')}, {counted(runs, 'run')}, {seconds(spent)} of successful training"
    )
    warnings = f'<aside class="warnings">{_list(study.warnings)}</aside>' if study.warnings else ""
    return (
        f'<header><button id="theme" type="button">Light / dark</button><h1>{escape(study.name)}</h1>'
        f'<p class="muted">{escape(facts)}</p>{warnings}'
        f'<div class="verdict"><p class="headline">{escape(study.verdict.headline)}</p>'
        f"{_list(study.verdict.sentences)}</div></header>"
    )


def _section(title: str, *inside: str, note: str = "") -> str:
    held = "".join(inside)
    explained = f'<p class="muted note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{explained}{held}</section>" if held else ""


def _main_table(study: Study) -> str:
    rows = []
    for standing in study.verdict.standings:
        cells = columns(standing)
        rows.append([cells[key] for key in _MAIN])
    marks = [_mark(study, arm) for arm in study.arms]
    return _table([*_MAIN], rows, marks)


def _all_measures(study: Study) -> str:
    every = [columns(standing) for standing in study.verdict.standings]
    keys = ["arm", *(key for key in every[0] if key not in _MAIN)]
    table = _table(keys, [[cells[key] for key in keys] for cells in every])
    return _details("Show all measures: median (quartiles)", table)


def _mark(study: Study, arm: Arm) -> str:
    if arm is study.verdict.candidate:
        return "winner"
    return "refused" if arm.name in study.comparison.refused else ""


def _curves(study: Study) -> str:
    heads = ("validation loss", "gradient norm", "learning rate")
    titles = "".join(f"<span>{head}</span>" for head in heads)
    rows = "".join(
        f'<div class="curve"><h3>{escape(arm.name)}<small>{_crashes(arm)}</small></h3>{drawn}</div>'
        for arm, drawn in charts.curves(study)
    )
    return f'<div class="scroll"><div class="curves"><div class="heads">{titles}</div>{rows}</div></div>'


def _crashes(arm: Arm) -> str:
    return f"{arm.crashed} of {len(arm.results)} crashed" if arm.results else "no result"


def _reconstructions(gallery: Gallery) -> str:
    known = any(picture.run is None for picture in gallery.pictures)
    cards = "".join(_card(picture) for picture in gallery.pictures)
    bars = "".join(
        f'<span>{label}</span><span>{low}</span><img src="{gallery.bars[kind]}" alt=""><span>{high}</span>'
        for kind, label in (("amplitude", "Amplitude"), ("phase", "Phase / rad"))
        for low, high in [_ends(*gallery.scales[kind])]
    )
    note = "The run of median loss of every arm, on common colour scales. " + (
        "Press and hold a picture to see the truth in its place." if known else "No truth is known."
    )
    pictures = f'<div class="bars">{bars}</div><div class="gallery">{cards}</div>'
    return _section("Reconstructions", pictures, note=note)


def _ends(low: float, high: float) -> tuple[str, str]:
    """The ends of a scale, to a hundredth of its length."""
    digits = 2 - math.floor(math.log10(high - low))
    return tick_label(round(low, digits) + 0.0), tick_label(round(high, digits) + 0.0)


def _card(picture: Picture) -> str:
    if picture.arm is None or picture.run is None:
        caption, about, hue = "Truth", "", "truth"
    else:
        ssim = shown(picture.run.measures.get("ssim_amplitude"), "{:.3f}")
        phase = shown(picture.run.measures.get("ssim_phase"), "{:.3f}")
        caption, hue = picture.arm.name, "" if picture.run.succeeded else "bad"
        state = "" if picture.run.succeeded else f", {picture.run.state}"
        about = f"seed {picture.run.seed}{state}, SSIM {ssim} / {phase}"
    images = "".join(
        f'<img src="{uri}" alt="{kind}, {escape(caption)}" data-kind="{kind}" draggable="false">'
        for kind, uri in picture.images.items()
    )
    return (
        f'<figure class="card {hue}"><figcaption>{escape(caption)}<small>{escape(about)}</small></figcaption>'
        f"{images}</figure>"
    )


def _differences(study: Study) -> str:
    if study.control is None:
        return ""
    cards = []
    for arm in study.arms:
        if arm is study.control:
            continue
        found = readable_differences(arm, study.control)
        rows = "".join(
            f"<tr><td>{escape(key)}</td><td>{_struck_out(theirs)}</td><td>{escape(ours)}</td></tr>"
            for key, theirs, ours in found
        )
        unread = arm.settings is None or study.control.settings is None
        nothing = "configuration not readable" if unread else "no difference"
        inside = f"<table>{rows}</table>" if found else f'<p class="muted">{nothing}</p>'
        cards.append(f'<div class="settings"><h3>{escape(arm.name)}</h3>{inside}</div>')
    note = f"What each arm changes of {study.control.name}: struck out, the control's value."
    return _section("Settings", f'<div class="columns">{"".join(cards)}</div>' if cards else "", note=note)


def _struck_out(words: str) -> str:
    return words if words == NONE else f"<del>{escape(words)}</del>"


def _runs_table(study: Study) -> str:
    rows = [run_cells(arm, run) for arm in study.arms for run in arm.runs]
    return _table(list(rows[0]), [list(row.values()) for row in rows])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], marks: Sequence[str] = ()) -> str:
    head = "".join(f"<th>{escape(entry)}</th>" for entry in heads)
    body = "".join(
        f'<tr class="{marks[index] if marks else ""}">'
        + "".join(f"<td>{_cell(cell)}</td>" for cell in row)
        + "</tr>"
        for index, row in enumerate(rows)
    )
    return _scrolled(f'<table class="data"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def _cell(words: str) -> str:
    """Quartiles and intervals go on a second line."""
    first, bracket, second = words.partition(" (")
    under = f"<small>{escape(second.removesuffix(')'))}</small>" if bracket and words.endswith(")") else ""
    return escape(first) + under if under else escape(words)


def _scrolled(inside: str) -> str:
    return f'<div class="scroll">{inside}</div>' if inside else ""


def _details(title: str, inside: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{inside}</details>"


def _list(lines: Iterable[str]) -> str:
    entries = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{entries}</ul>" if entries else ""


def _asset(name: str) -> str:
    return (files("ptychofno.report") / name).read_text(encoding="utf-8")

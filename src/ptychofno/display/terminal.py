"""What a run prints: a first line, a progress bar, and its results. Without a terminal, no bar."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text
from torch import nn

from ptychofno.data.dataset import PtychoDataset
from ptychofno.display import sweep
from ptychofno.display.text import counted, duration, print_fitting, printable
from ptychofno.runs import artifacts
from ptychofno.runs.directory import Run
from ptychofno.training.interruption import Interrupted

log = logging.getLogger(__name__)

_METRICS = (
    ("SSIM", "ssim", "{:.4f}"),
    ("MS-SSIM", "ms_ssim", "{:.4f}"),
    ("MAE", "mae", "{:.4g}"),
    ("PSNR / dB", "psnr", "{:.1f}"),
    ("FRC 0.5 / cycles per px", "frc50", "{:.3f}"),
)


def bar(console: Console, first: ProgressColumn, *others: ProgressColumn) -> Progress:
    """A bar between columns of text, which is gone at its end; nothing without a terminal."""
    columns = (first, BarColumn(bar_width=None), *others)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def rounds_bar(console: Console, refine: Any) -> Iterator[Callable[[int, float], None]]:
    """A bar over rounds of overlap, and a line in the log for each; gives what tells of a round's error."""
    with bar(console, TextColumn("{task.description}"), TimeElapsedColumn()) as progress:
        task = progress.add_task("evaluating", total=refine.rounds or None)

        def told(number: int, error: float) -> None:
            log.info("round %d of overlap: error %.4g", number, error)
            progress.update(task, completed=number, description=f"round {number}  error {error:.4f}")

        yield told


@contextmanager
def reading_bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar while data are prepared, over patterns of a scan as they are read; gives what tells of them."""
    with bar(console, TextColumn("{task.description}"), TimeElapsedColumn()) as progress:
        task = progress.add_task("preparing the data", total=None)

        def told(done: int, count: int) -> None:
            said = f"reading pattern {done} of {count}" if done < count else "preparing the data"
            progress.update(task, completed=done, total=count, description=said)

        yield told


def announce(console: Console, cfg: Any, run: Run, dataset: PtychoDataset, network: nn.Module) -> None:
    """What is trained, on which data, with how many parameters; and a note where its warmup never ends."""
    size = dataset.train.amplitude.shape[-1]
    what = (
        f": {type(network).__name__} with {run.record['parameters']:,} parameters"
        f" on {dataset.name} ({len(dataset.train.amplitude)} patterns of {size} x {size},"
        f" dataset {dataset.key}), {counted(cfg.trainer.max_epochs, 'epoch')} on {run.record['device']}"
    )
    doing = "resuming" if run.record["resumed"] else "training"
    _tell(console, Text.assemble((f"{doing} {run.path.name}", "bold"), what))
    tell_scan(console, dataset)
    warm_up = cfg.scheduler.get("warmup_epochs") or 0
    if warm_up >= cfg.trainer.max_epochs:
        unended = (
            f"scheduler.warmup_epochs={warm_up} is not over after trainer.max_epochs={cfg.trainer.max_epochs}"
        )
        _tell(console, f"note: {unended}: the learning rate never reaches optimizer.lr")


def tell_scan(console: Console, dataset: PtychoDataset) -> None:
    """What was decided when a scan was read, and how far a refined probe is from the one that was given."""
    if dataset.object_pixel_m is not None:
        _tell(console, f"an object pixel is {dataset.object_pixel_m * 1e9:.3g} nm")
    for note in dataset.notes:
        _tell(console, note)
    if dataset.given_probe is not None:
        given, found = (p.reshape(-1, dataset.N**2)[0] for p in (dataset.given_probe, dataset.probe))
        overlap = abs(np.vdot(given, found)) / (np.linalg.norm(given) * np.linalg.norm(found))
        _tell(
            console,
            "the probe was refined on the training patterns; its correlation with the given one, from 0 to 1,"
            f" is {overlap:.2f} (probe=dataset keeps the given one)",
        )


def show_interruption(console: Console, interrupted: Interrupted, resumable: bool) -> None:
    """What interrupted the run, and what the same command will do."""
    then = "goes on from here" if resumable else "starts over (enable_checkpointing=false)"
    _tell(console, f"interrupted ({interrupted}); the same command {then}")


def show_result(console: Console, run: Run, brief: bool = False) -> None:
    """State, metrics, time, and where the pictures are; ``brief``: one line of it, for one run of many."""
    place, left = sweep.ended()
    record, metrics = run.record, _metrics_in(run.path)
    state = record["state"]
    colour = {"completed": "green", "collapsed": "yellow"}.get(state, "red")
    name = f"{place}{run.path.name} " if brief else ""
    result = f"{_in_brief(record, metrics)}{left}" if brief else _loss_line(record)
    spent = f" in {duration(record['seconds']['total'])}: "
    _tell(console, Text.assemble(name, (state, f"bold {colour}"), spent, result))
    if not brief and state == "collapsed" and not metrics.get("no_better_than_flat"):
        by_overlap = "; what follows was found by the rounds of overlap" if metrics.get("unrefined") else ""
        _tell(
            console,
            "the network itself ended on the flat plateau: its patches explain the patterns no better than an"
            f" object of constant amplitude does{by_overlap}",
        )
    if record.get("error"):
        _tell(console, printable(str(record["error"])), colour)
    if not brief:
        show_metrics(console, run.path)


def show_metrics(console: Console, directory: Path) -> None:
    """The metrics that are there as a table, and the paths of pictures and metrics."""
    metrics = _metrics_in(directory)
    rows = []
    for label, key, form in _METRICS:
        values = metrics.get(key) or [None, None]
        if values != [None, None]:
            amplitude, phase = (_number(value, form) for value in values)
            rows.append({"": label, "amplitude": amplitude, "phase": phase})
    if rows:
        print_fitting(console, rows, ())
    for line in _lines(metrics):
        _tell(console, line)
    if metrics.get("no_better_than_flat"):
        hint = metrics.get("hint") or "probe, positions or orientation may be wrong"
        _tell(console, f"the object predicts held-out patterns no better than a flat one: {hint}", "red")
    for name in (artifacts.RECONSTRUCTION_FIGURE, artifacts.CURVES_FIGURE, artifacts.METRICS):
        if (directory / name).exists():
            _tell(console, str(directory / name))


def _lines(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Errors in words, those before the rounds of overlap beside them."""
    before = metrics.get("unrefined") or {}
    if metrics.get("phase_mae_rad") is not None:
        yield f"phase error {metrics['phase_mae_rad']:.4g} rad"
    if before.get("phase_mae_rad") is not None:
        ssim = " and ".join(_number(value, "{:.4f}") for value in before["ssim"])
        yield f"before rounds of overlap: SSIM {ssim}, phase error {before['phase_mae_rad']:.4f} rad"
    if (error := metrics.get("diffraction_error_stitched")) is not None:
        was = before.get("diffraction_error_stitched")
        others = f"flat object {metrics['flat']:.4f}"
        others += "" if was is None else f"; before rounds of overlap {was:.4f}"
        yield f"error of held-out patterns as the object of all others predicts them: {error:.4f} ({others})"
    elif (error := metrics.get("diffraction_error")) is not None:
        yield f"relative error of the diffraction amplitude, test patterns: {error:.4g}"


def _metrics_in(directory: Path) -> dict[str, Any]:
    path = directory / artifacts.METRICS
    return dict(artifacts.read_json(path)) if path.exists() else {}


def _loss_line(record: Mapping[str, Any]) -> str:
    if not record["best_epoch"]:
        return "no epoch was finished"
    return (
        f"validation loss {_number(record['final_val_loss'], missing='not finite')}"
        f" (best {record['best_val_loss']:.4g} in epoch "
        f"{record['best_epoch']} of {record['epochs']}; best flat object {record['flat_baseline']:.4g})"
    )


def _in_brief(record: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Similarity to the true object, or what is known of a measured one, and the validation loss."""
    loss = f"validation loss {_number(record.get('final_val_loss'), missing='not finite')}"
    if (values := metrics.get("ssim")) is not None:
        return "SSIM {}, phase {}, {}".format(*(_number(value, "{:.4f}") for value in values), loss)
    error = metrics.get("diffraction_error_stitched")
    return loss if error is None else f"held-out diffraction error {error:.4g}, {loss}"


def _number(value: float | None, form: str = "{:.4g}", missing: str = "-") -> str:
    return missing if value is None else form.format(value)


def _tell(console: Console, text: str | Text, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, soft_wrap=True)

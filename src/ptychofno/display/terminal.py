"""What a run says: a first line, a progress bar, a last block. Without a terminal, no bar."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from torch import nn

from ptychofno.data.dataset import PtychoDataset
from ptychofno.display.text import printable
from ptychofno.runs import artifacts
from ptychofno.runs.directory import Run
from ptychofno.training import Interrupted, PhysicsSupervised, Watch

log = logging.getLogger(__name__)

_METRICS = (
    ("SSIM", "ssim", "{:.4f}"),
    ("MS-SSIM", "ms_ssim", "{:.4f}"),
    ("MAE", "mae", "{:.4g}"),
    ("PSNR / dB", "psnr", "{:.1f}"),
    ("FRC 0.5 / cycles per px", "frc50", "{:.3f}"),
)


class ProgressBar(L.Callback):
    """One bar over all epochs with loss, validation loss and learning rate; a log line per epoch.

    An intervention of the guard is a line in both.
    """

    refresh_seconds = 0.2

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress: Progress | None = None
        self.task = TaskID(0)
        self._val_loss = "-"
        self._refreshed = 0.0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not self.console.is_terminal:
            return
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("loss {task.fields[loss]}  val {task.fields[val]}  lr {task.fields[lr]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        total = int(trainer.num_training_batches) * (trainer.max_epochs or 0)
        self.task = self.progress.add_task(
            "", total=total, completed=trainer.global_step, epoch="", loss="-", val="-", lr="-"
        )
        self.progress.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if self.progress is None or now - self._refreshed < self.refresh_seconds:
            return  # reading the loss waits for the device
        self._refreshed = now
        assert isinstance(module, PhysicsSupervised)
        self.progress.update(
            self.task,
            completed=trainer.global_step,
            epoch=f"{trainer.current_epoch + 1}/{trainer.max_epochs}",
            loss=f"{float(module.step_record['loss']):.4g}",
            val=self._val_loss,
            lr=f"{trainer.optimizers[0].param_groups[0]['lr']:.2e}",
        )

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._val_loss = f"{float(trainer.callback_metrics['val_loss']):.4g}"
        log.info(
            "epoch %d/%d: validation loss %s", trainer.current_epoch + 1, trainer.max_epochs, self._val_loss
        )
        for watch in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(watch, Watch) and watch.news:
                log.info(watch.news)
                self.console.print(watch.news, soft_wrap=True)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


class RoundsBar:
    """A bar over rounds of overlap with the error of the patterns; a line in the log for each round.

    As a context it gives what is to be called with the number of a round and its error.
    """

    def __init__(self, console: Console, refine: Any) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TimeElapsedColumn())
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.total = refine.rounds if refine.name != "none" else None

    def __enter__(self) -> Callable[[int, float], None]:
        self.progress.start()
        self.task = self.progress.add_task("evaluating", total=self.total)
        return self._told

    def __exit__(self, *reason: Any) -> None:
        self.progress.stop()

    def _told(self, number: int, error: float) -> None:
        log.info("round %d of overlap: error %.4g", number, error)
        self.progress.update(self.task, completed=number, description=f"round {number}  error {error:.4f}")


@contextmanager
def reading_bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar over the patterns of a measured scan while they are read; gives what is told of them."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading", total=None, visible=False)

        def told(done: int, count: int) -> None:
            description = f"reading pattern {done} of {count}"
            progress.update(task, completed=done, total=count, description=description, visible=True)

        yield told


def announce(console: Console, cfg: Any, run: Run, dataset: PtychoDataset, network: nn.Module) -> None:
    """What is being run, on which data, with how many parameters, and a schedule that is cut short."""
    size = dataset.train.amplitude.shape[-1]
    console.print(
        Text.assemble(
            (f"{'resuming' if run.record['resumed'] else 'training'} {run.path.name}", "bold"),
            f": {type(network).__name__} with {count(run.record['parameters'])} parameters on {dataset.name} "
            f"({len(dataset.train.amplitude)} patterns of {size} x {size}, dataset {dataset.key}), "
            f"{number(cfg.trainer.max_epochs, 'epoch')} on {run.record['device']}",
        ),
        soft_wrap=True,
    )
    tell_scan(console, dataset)
    warm_up = cfg.scheduler.get("warmup_epochs") or 0
    if warm_up >= cfg.trainer.max_epochs:
        console.print(
            f"note: scheduler.warmup_epochs={warm_up} is not over after trainer.max_epochs="
            f"{cfg.trainer.max_epochs}: the learning rate never reaches that of the optimizer",
            soft_wrap=True,
        )


def tell_scan(console: Console, dataset: PtychoDataset) -> None:
    """What was decided when a scan was read, and how far a refined probe is from the one that was given."""
    if dataset.object_pixel_m is not None:
        console.print(f"an object pixel is {dataset.object_pixel_m * 1e9:.3g} nm", soft_wrap=True)
    for note in dataset.notes:
        console.print(note, soft_wrap=True, markup=False)
    if dataset.given_probe is not None:
        given, found = dataset.given_probe.ravel(), dataset.probe.ravel()
        overlap = abs(np.vdot(given, found)) / (np.linalg.norm(given) * np.linalg.norm(found))
        console.print(
            "the probe was refined on the training patterns; its overlap with the given one, from 0 to 1, is"
            f" {overlap:.2f} (probe=dataset keeps the given one)",
            soft_wrap=True,
        )


def show_interruption(console: Console, interrupted: Interrupted, resumable: bool) -> None:
    """What was heard, and what the same command will do."""
    then = "goes on from here" if resumable else "starts over (enable_checkpointing=false)"
    console.print(f"interrupted ({interrupted}); the same command {then}", soft_wrap=True)


def show_result(console: Console, run: Run, *, brief: bool = False) -> None:
    """State, metrics, time, and where the pictures are; one line of it for one run of many."""
    record, metrics = run.record, _metrics_in(run.path)
    colour = "green" if record["state"] == "completed" else "red"
    console.print(
        Text.assemble(
            f"{run.path.name} " if brief else "",
            (record["state"], f"bold {colour}"),
            f" in {duration(record['seconds']['total'])}: {_loss_line(record)}",
            _ssim(metrics) if brief else "",
        ),
        soft_wrap=True,
    )
    if record["state"] == "collapsed" and not metrics.get("no_better_than_flat") and not brief:
        console.print("the network ended as a flat object: its patches do not tell one pattern from another")
    if record.get("interventions") and not brief:
        console.print(f"the guard went back {number(len(record['interventions']), 'time')}")
    if record.get("error"):
        console.print(printable(str(record["error"])), style=colour, soft_wrap=True)
    if not brief:
        show_metrics(console, run.path)


def show_metrics(console: Console, directory: Path) -> None:
    """The metrics that are there as a table, and the paths of pictures and metrics."""
    metrics = _metrics_in(directory)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("", "amplitude", "phase"):
        table.add_column(heading, justify="right" if heading else "left")
    for label, key, form in _METRICS:
        values = metrics.get(key, [None])
        if any(value is not None for value in values):
            table.add_row(label, *("-" if value is None else form.format(value) for value in values))
    if table.row_count:
        console.print(table)
    before = metrics.get("unrefined") or {}
    if metrics.get("phase_mae_rad") is not None:
        console.print(f"phase error {metrics['phase_mae_rad']:.4g} rad")
    if before.get("phase_mae_rad") is not None:
        console.print(
            f"before rounds of overlap: SSIM {' and '.join(_shown(value) for value in before['ssim'])},"
            f" phase error {before['phase_mae_rad']:.4f} rad"
        )
    if metrics.get("diffraction_error_stitched") is not None:
        was = before.get("diffraction_error_stitched")
        console.print(
            "error of held-out patterns as the object of all others predicts them:"
            f" {metrics['diffraction_error_stitched']:.4f} (flat object {metrics['flat']:.4f}"
            f"{'' if was is None else f'; before rounds of overlap {was:.4f}'})",
            soft_wrap=True,
        )
    elif metrics.get("diffraction_error") is not None:
        console.print(
            f"relative error of the diffraction amplitude, test patterns: {metrics['diffraction_error']:.4g}"
        )
    if metrics.get("no_better_than_flat"):
        console.print(
            "the object predicts other patterns no better than a flat one:"
            f" {metrics.get('hint') or 'probe, positions or orientation may be wrong'}",
            style="red",
            soft_wrap=True,
        )
    for name in (artifacts.RECONSTRUCTION_FIGURE, artifacts.CURVES_FIGURE, artifacts.METRICS):
        if (directory / name).exists():
            console.print(str(directory / name), soft_wrap=True)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _metrics_in(directory: Path) -> dict[str, Any]:
    path = directory / artifacts.METRICS
    return dict(artifacts.read_json(path)) if path.exists() else {}


def number(count: int, noun: str) -> str:
    """``1 epoch``, ``2 epochs``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def count(number: int) -> str:
    """``842``, ``19.5 k`` or ``20.1 M``."""
    for limit, unit in ((1e6, " M"), (1e3, " k")):
        if number >= limit:
            return f"{number / limit:.1f}{unit}"
    return str(number)


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 7 s`` or ``1 h 12 min``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{seconds:.1f} s" if seconds < 10 else f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{minutes} min {rest} s" if hours == 0 else f"{hours} h {minutes_left} min"


def _loss_line(record: Mapping[str, Any]) -> str:
    if not record["best_epoch"]:
        return "no epoch was finished"
    final = record["final_val_loss"]
    return (
        f"validation loss {'not finite' if final is None else f'{final:.4g}'}"
        f" (best {record['best_val_loss']:.4g} in epoch "
        f"{record['best_epoch']} of {record['epochs']}; best flat object {record['flat_baseline']:.4g})"
    )


def _ssim(metrics: Mapping[str, Any]) -> str:
    values = metrics.get("ssim") or [None, None]
    amplitude, phase = ("-" if value is None else f"{value:.3f}" for value in values)
    return "" if values == [None, None] else f"; SSIM {amplitude}, phase {phase}"

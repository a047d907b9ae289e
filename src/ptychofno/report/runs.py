"""One run as its directory tells it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ptychofno.config.errors import shown
from ptychofno.display.text import one_line
from ptychofno.report import files
from ptychofno.report.files import Unreadable, number, numbers
from ptychofno.runs import artifacts
from ptychofno.runs.comparison import flat, of_the_result
from ptychofno.runs.stats import GOOD_SSIM, epoch_left_plateau, steps_to_ssim

Numbers = NDArray[np.float64]
Read = TypeVar("Read")

UNKNOWN = "unknown"
REFERENCE = "reference"
FLAT = "flat object"
"""A reconstruction without a network, from an object of constant amplitude, is a reference of this name."""
GIVEN_BACK = 0.25
"""A run fell later when, in the end, it had lost this share of what it had once gained on the flat object."""
CURVES: tuple[str, ...] = ("step", "train_loss", "val_loss", "val_ssim", "learning_rate", "seconds")
CURVES += ("grad_norm_median",)
_TOLD_ELSEWHERE = ("seed", "data.seed", "arm", "study")


@dataclass(frozen=True)
class Measure:
    """A number that judges a successful run."""

    key: str
    label: str
    form: str = "{:.4g}"
    better: str = ""
    """``low``, ``high`` or neither."""

    @property
    def noun(self) -> str:
        """``loss`` of ``validation loss``."""
        return self.label.split()[-1]


LOSS = Measure("best_val_loss", "validation loss", better="low")
HELD_OUT_ERROR = Measure("diffraction_error_stitched", "held-out error", better="low")
"""Of a measured scan's test patterns, as the object stitched from all others predicts them."""

MEASURES = (
    LOSS,
    Measure("ssim_amplitude", "SSIM amplitude", "{:.4f}", "high"),
    Measure("ssim_phase", "SSIM phase", "{:.4f}", "high"),
    HELD_OUT_ERROR,
    Measure("flat", "held-out error of a flat object"),
    Measure("mae_amplitude", "MAE amplitude", better="low"),
    Measure("mae_phase", "MAE phase / rad", better="low"),
    Measure("psnr_amplitude", "PSNR amplitude / dB", "{:.1f}", "high"),
    Measure("psnr_phase", "PSNR phase / dB", "{:.1f}", "high"),
    Measure("frc50_amplitude", "FRC50 amplitude / px⁻¹", "{:.3f}", "high"),
    Measure("frc50_phase", "FRC50 phase / px⁻¹", "{:.3f}", "high"),
    Measure("training_seconds", "training time / s", "{:.1f}", "low"),
    Measure("left_plateau", "epoch off the plateau", "{:.0f}", "low"),
    Measure("steps_to_ssim", f"steps to SSIM {GOOD_SSIM}", "{:.0f}", "low"),
    Measure("grad_norm_median", "gradient norm, median", "{:.3g}"),
    Measure("grad_norm_p99", "gradient norm, 99 %", "{:.3g}"),
    Measure("grad_norm_max", "gradient norm, largest", "{:.3g}"),
)


@dataclass(frozen=True, eq=False)
class FoundRun:
    """What one directory holds. Text is printable and short; a number that is not there is NaN."""

    path: Path
    name: str
    arm: str
    seed: int | None
    state: str
    measures: Mapping[str, float]
    error: str = ""
    study: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Resolved, by dotted key; without the seeds and what only says where and how to compute."""
    overrides: frozenset[str] = frozenset()
    data_seed: int | None = None
    """Which object was drawn; None where none is, or that is not known."""
    dataset_key: str | None = None
    code: str | None = None
    """The identity of the sources that ran; runs of different sources are not ranked together."""
    commit: str | None = None
    device: str = ""
    given_more_epochs: bool = False
    parameters: float = math.nan
    flat_baseline: float = math.nan
    epochs: Numbers = field(default_factory=lambda: np.empty(0))
    curves: Mapping[str, Numbers] = field(default_factory=lambda: dict.fromkeys(CURVES, np.empty(0)))
    """Per entry of ``epochs``, the quantities of ``CURVES``."""
    problems: tuple[str, ...] = ()

    @property
    def has_result(self) -> bool:
        return self.state in artifacts.RESULT_STATES

    @property
    def succeeded(self) -> bool:
        return self.state in ("completed", REFERENCE)

    @property
    def final_val_loss(self) -> float:
        losses = self.curves["val_loss"]
        return float(losses[-1]) if losses.size else math.nan

    @property
    def fell_later(self) -> bool:
        """Whether the run ended well above its own best."""
        best = self.measures["best_val_loss"]
        gained = self.flat_baseline - best
        return bool(gained > 0 and self.final_val_loss - best > GIVEN_BACK * gained)


def read(path: Path) -> FoundRun:
    """The run in ``path``. What cannot be read is missing from it and named in ``problems``."""
    problems: list[str] = []

    def attempt(reader: Callable[[Path], Read], name: str, otherwise: Read) -> Read:
        try:
            return reader(path / name)
        except Unreadable as reason:
            problems.append(f"{name}: {reason}")
            return otherwise

    nothing: dict[str, Any] = {}
    names = (artifacts.RUN, artifacts.HISTORY, artifacts.METRICS, artifacts.STATS)
    record, history, metrics, statistics = (attempt(files.record, name, nothing) for name in names)
    config = attempt(files.settings, artifacts.CONFIG, None)
    typed = _lines(attempt(files.settings, f"{artifacts.HYDRA_DIR}/overrides.yaml", None))
    settings = flat(config) if isinstance(config, dict) else {}
    state = record.get("state")
    epochs = numbers(history.get("epoch"))
    curves = {key: _fitted(numbers(history.get(key)), epochs.size) for key in CURVES}
    name = one_line(path.name)
    return FoundRun(
        path=path,
        name=name,
        arm=_text(record, "arm") or _arm(typed, name),
        seed=_seed(record.get("seed", settings.get("seed"))),
        data_seed=_seed(settings.get("data.seed")),
        state=state if isinstance(state, str) and state in artifacts.STATES else UNKNOWN,
        error=_text(record, "error") or "",
        study=_text(record, "study"),
        settings={
            one_line(key): one_line(shown(entry))
            for key, entry in settings.items()
            if of_the_result(key) and key not in _TOLD_ELSEWHERE
        },
        overrides=frozenset(entry for entry in typed if _says_setting(entry)),
        dataset_key=_text(record, "dataset_key"),
        code=_code(record),
        commit=_text(record, "git_commit"),
        device=_text(record, "device") or "",
        given_more_epochs=bool(record.get("epochs_before")),
        parameters=number(record.get("parameters")),
        flat_baseline=number(record.get("flat_baseline")),
        epochs=epochs,
        curves=curves,
        measures=_of_metrics(metrics) | _of_training(record, statistics, epochs, curves),
        problems=tuple(problems),
    )


def read_reference(path: Path) -> FoundRun | None:
    """The reconstruction in ``path`` if it was made without a network, from a flat object; else None."""
    try:
        source, metrics = (files.record(path / name) for name in (artifacts.SOURCE, artifacts.METRICS))
    except Unreadable:
        return None
    if source.get("run_dir", path) is not None:
        return None
    typed = _lines(source.get("settings"))
    return FoundRun(
        path=path,
        name=one_line(path.name),
        arm=FLAT,
        seed=None,
        state=REFERENCE,
        settings=dict(entry.partition("=")[::2] for entry in typed),
        overrides=frozenset(typed),
        dataset_key=_text(source, "dataset_key_in_training") or _text(source, "dataset_key"),
        measures=dict.fromkeys((measure.key for measure in MEASURES), math.nan) | _of_metrics(metrics),
    )


def _of_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    found = {key: number(metrics.get(key)) for key in (HELD_OUT_ERROR.key, "flat")}
    for metric in ("ssim", "mae", "psnr", "frc50"):
        pair = metrics.get(metric)
        both = pair if isinstance(pair, list) and len(pair) == 2 else (None, None)
        found[f"{metric}_amplitude"], found[f"{metric}_phase"] = map(number, both)
    if "ssim_phase_2pi" not in metrics:
        found["ssim_phase"] = math.nan  # an earlier version's, within 2 pi whatever the phase spans
    return found


def _of_training(
    record: Mapping[str, Any],
    statistics: Mapping[str, Any],
    epochs: Numbers,
    curves: Mapping[str, Numbers],
) -> dict[str, float]:
    losses, spent = (curves[key][np.isfinite(curves[key])] for key in ("val_loss", "seconds"))
    norms = statistics.get("grad_norm")
    norms = norms if isinstance(norms, dict) else {}
    left = epoch_left_plateau(epochs, curves["val_loss"], number(record.get("flat_baseline")))
    return {
        "best_val_loss": float(losses.min()) if losses.size else number(record.get("best_val_loss")),
        "training_seconds": float(spent.sum()) if spent.size else math.nan,
        "left_plateau": number(left),
        **{f"grad_norm_{kind}": number(norms.get(kind)) for kind in ("median", "p99", "max")},
        "steps_to_ssim": number(steps_to_ssim(curves["step"], curves["val_ssim"])),
    }


def _seed(value: Any) -> int | None:
    usable = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return value if usable else None


def _text(record: Mapping[str, Any], key: str) -> str | None:
    entry = record.get(key)
    return one_line(entry) or None if isinstance(entry, str) else None


def _lines(entries: Any) -> list[str]:
    return [one_line(entry, 300) for entry in entries] if isinstance(entries, list) else []


def _code(record: Mapping[str, Any]) -> str | None:
    """The sources that ran, else their commit, else the version of the installed package."""
    commit, versions = _text(record, "code") or _text(record, "git_commit"), record.get("versions")
    version = _text(versions, "ptychofno") if isinstance(versions, dict) else None
    return commit or (f"version {version}" if version else None)


def _arm(typed: list[str], directory: str) -> str:
    """Chosen by ``+arm=stable``, else what names the directory, ``<arm>-seed<seed>[-overrides]``."""
    chosen = [entry.split("=", 1)[1] for entry in typed if re.match(r"\+{0,2}arm=\w", entry)]
    return one_line(chosen[-1] if chosen else re.split(r"-seed-?\d", directory)[0] or directory, 60)


def _says_setting(override: str) -> bool:
    key = override.split("=", 1)[0].lstrip("+")
    return key not in _TOLD_ELSEWHERE and key.split(".")[0] not in ("hydra", "logger") and of_the_result(key)


def _fitted(values: Numbers, length: int) -> Numbers:
    """``values`` cut or filled with NaN to ``length``."""
    fitted = np.full(length, np.nan)
    fitted[: min(length, values.size)] = values[:length]
    return fitted

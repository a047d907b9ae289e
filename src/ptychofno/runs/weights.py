"""Networks in files, rebuilt from our own classes alone; and how other data fit what they were trained on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ptychofno import build, models, physics
from ptychofno.build import as_config_errors, model_context
from ptychofno.config.errors import ConfigError
from ptychofno.data import PtychoDataset
from ptychofno.data.preparation import bins_for
from ptychofno.data.settings import MeasuredData
from ptychofno.runs import artifacts
from ptychofno.runs.directory import Run

if TYPE_CHECKING:
    from ptychofno.training.fit import Outcome


def keep_weights(
    run: Run, model: Mapping[str, Any], dataset: PtychoDataset, outcome: Outcome, use_best: bool, others: bool
) -> None:
    """Write model.pt, the judged weights, and with ``others`` best and last ones beside it where they differ.

    The record's ``judged`` says which of the two, or both, are those of model.pt.
    """
    whole = outcome.diverged is None and outcome.best_epoch == outcome.epochs["epoch"][-1]
    judged = ["best", "last"] if whole else ["best"] if use_best else ["last"]
    weights = outcome.best_weights if "best" in judged else outcome.last_weights
    epoch = outcome.best_epoch if "best" in judged else 0
    save_model(run.path / artifacts.MODEL, model, dataset, weights, epoch)
    run.update(judged=judged)
    for name, file in (("best", artifacts.BEST_WEIGHTS), ("last", artifacts.LAST_WEIGHTS)):
        if name in judged:
            (run.path / file).unlink(missing_ok=True)
    if others and "last" not in judged:
        artifacts.save_tensors(run.path / artifacts.LAST_WEIGHTS, outcome.last_weights)


def save_model(
    path: Path,
    model: Mapping[str, Any],
    dataset: PtychoDataset,
    weights: Mapping[str, Tensor],
    epoch: int = 0,
) -> None:
    """Write weights and what is needed to rebuild their network, of plain ``model`` settings: no pickle.

    ``epoch`` is that of the best weights, 0 of others. ``brightest`` is the largest amplitude of each pixel
    in training, (N, N), in units of the root mean square: what other data are held against.
    """
    context = model_context(dataset)
    brightest = dataset.train.amplitude.max(axis=(0, 1)) / dataset.rms_amplitude
    bundle = {
        "state_dict": dict(weights),
        "epoch": epoch,
        "model": dict(model),
        **{name: context[name] for name in ("size", "patches", "probe", "valid")},
        "brightest": torch.from_numpy(brightest),
    }
    artifacts.save_tensors(path, bundle)


def of_model(path: Path) -> dict[str, Any] | None:
    """What ``save_model`` wrote; None where there is no such file of ours."""
    try:
        bundle: dict[str, Any] = artifacts.load_tensors(path)
        return {**bundle, "size": int(bundle["size"]), "patches": int(bundle["patches"])}
    except Exception:
        return None  # the weights will say what does not fit


def trained_shape(path: Path) -> tuple[int, int] | None:
    """(C, N) of the patterns that the network of a ``model.pt`` is made for; None where that is not told."""
    bundle = of_model(path)
    return None if bundle is None else (bundle["patches"], bundle["size"])


def load_model(path: Path, *, trust: Collection[str] = ()) -> nn.Module:
    """The trained network of a ``model.pt``, from whoever it came: only classes of ours, no pickle.

    ``trust`` has classes of your own, as ``package.module.Class``, that the file may name. Raises ConfigError
    for what is not such a file, and for missing and unexpected weights.
    """
    try:
        bundle = artifacts.load_tensors(path)
        size = int(bundle["size"])
        network = models.build_generator(
            bundle["model"],
            lambda target: build.find(target) if target in trust else models.of_ours(target),
            size=size,
            patches=int(bundle["patches"]),
            probe=bundle.get("probe", torch.ones(size, size, dtype=torch.complex64)),
            rms_amplitude=1.0,
            back_project=physics.back_projection,
            project=physics.error_reduction,
            valid=bundle.get("valid"),
        )
        weights = bundle["state_dict"]
    except Exception as error:
        raise ConfigError(f"{path}: not a usable model: {' '.join(str(error).split())[:300]}") from error
    _fill(network, weights, path)
    return network


def recorded_generator(
    model: Mapping[str, Any],
    dataset: PtychoDataset,
    weights: Path | None = None,
    *,
    for_its_data: bool = True,
) -> nn.Module:
    """The network of ``model`` settings whose classes were checked (``runs.recorded``); no pickle.

    ``weights`` and ``for_its_data`` as of ``load_weights``; None leaves the network as it starts.
    """
    with as_config_errors():
        network = models.build_generator(model, build.find, **model_context(dataset))
    if weights is not None:
        load_weights(network, weights, for_its_data=for_its_data)
    return network


def load_weights(network: nn.Module, file: Path, *, for_its_data: bool = True) -> None:
    """Give ``network`` the weights in ``file``: a ``model.pt`` or a plain state dict, no pickle.

    ``for_its_data`` takes the probe and amplitude scale of training, too; else the network keeps its own.
    Raises ConfigError naming the file, and every weight that it lacks, has too many or in another shape.
    """
    try:
        values = artifacts.load_tensors(file)
    except Exception as error:
        raise ConfigError(f"{file}: not a file of weights: {str(error)[:200]}") from error
    if isinstance(values, dict) and isinstance(values.get("state_dict"), dict):
        values = values["state_dict"]
    if not for_its_data and isinstance(values, dict):
        values = {name: value for name, value in values.items() if not _is_of_data(name)}
        values |= {name: value for name, value in network.state_dict().items() if _is_of_data(name)}
    _fill(network, values, file)


def start_from(network: nn.Module, place: str) -> dict[str, str]:
    """Let ``network`` begin with the weights of a run's directory (those it was judged by) or of a file.

    What it has of its own data, such as the probe, stays. Gives the file and what identifies its content, for
    the record.
    """
    path = Path(place).expanduser()
    file = path / artifacts.MODEL if path.is_dir() else path
    try:
        load_weights(network, file, for_its_data=False)
    except ConfigError as error:
        raise ConfigError(f"init_from={place}: {error}") from error
    return {"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def _is_of_data(name: Any) -> bool:
    """Whether an entry of a state dict is the dataset's, held by ``models.inputs`` or ``models.outputs``."""
    return str(name).startswith(("inputs.", "output."))


def _fill(network: nn.Module, weights: Any, path: Path) -> None:
    """Load ``weights``; raise ConfigError naming those that do not fit."""
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ConfigError(f"{path}: not a usable model: expected weights by name")
    expected = network.state_dict()
    wrong = {
        "missing": [name for name in expected if name not in weights],
        "unexpected": [str(name) for name in weights if name not in expected],
        "of another shape": [
            f"{name} {list(weights[name].shape)} instead of {list(value.shape)}"
            for name, value in expected.items()
            if name in weights and weights[name].shape != value.shape
        ],
    }
    said = [f"{what} {_listed(names)}" for what, names in wrong.items() if names]
    if said:
        raise ConfigError(f"{path}: not a usable model: weights {'; '.join(said)}")
    network.load_state_dict(weights)


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# --- a trained network on another scan -------------------------------------------------------

_UNLIKE = 0.5
"""Overlap of two probes, from 0 to 1, below which a network has hardly seen the like."""

_FACTOR = 10.0
"""Ratio of photons per pattern from which on a network has seen another noise."""

_OUTSIDE = 0.05
"""Share of the amplitude brighter than in training from which on it is told by itself."""

_PATTERNS = 512
"""So many are looked at for that."""


def settings_for(data: Any, model: Path, typed: Sequence[str]) -> dict[str, int]:
    """The settings, of those that are not typed, that bring a measured scan to a network's size.

    Raises ValueError for files that cannot be read.
    """
    trained = of_model(model)
    if trained is None or not isinstance(data, MeasuredData):
        return {}
    names = {change.partition("=")[0] for change in typed}
    wanted = {"data.N": trained["size"], "data.gridsize": math.isqrt(trained["patches"])}
    if "data.detector.bin" not in names:
        wanted["data.detector.bin"] = bins_for(data, trained["size"])
    return {name: value for name, value in wanted.items() if name not in names}


def differences(model: Path, values: Mapping[str, Any], dataset: PtychoDataset) -> list[str]:
    """What of a dataset is far from what a network was trained on, a line each.

    Args:
        values: recorded settings of the run that trained it.
    """
    trained, N = of_model(model), dataset.N
    if trained is None:
        return []
    found = []
    if (probe := trained.get("probe")) is not None and probe.shape[-1] == N:
        overlap = probe_overlap(probe.numpy().reshape(-1, N, N)[0], dataset.probe.reshape(-1, N, N)[0])
        if overlap < _UNLIKE:
            found.append(
                f"the probe overlaps by {overlap:.2f} of 1 with the one the network was trained with"
            )
    dose = values.get("data", {}).get("nphotons")
    photons = (dataset.rms_amplitude * N * dataset.photon_scale) ** 2
    if isinstance(dose, int | float) and not 1 / _FACTOR < photons / dose < _FACTOR:
        found.append(
            f"the patterns have {photons:.2g} photons in the mean, those of training had {dose:.2g}:"
            " the network has not seen such noise"
        )
    if (brightest := trained.get("brightest")) is not None and tuple(brightest.shape) == (N, N):
        share = share_outside(dataset, brightest.numpy())
        if found or share > _OUTSIDE:
            found.append(
                f"{share:.1%} of the amplitude lies in pixels brighter than they ever were in training"
            )
    return found


def share_outside(dataset: PtychoDataset, brightest: np.ndarray) -> float:
    """The share of the amplitude above ``brightest`` (N, N), root mean squares of each dataset being 1."""
    amplitude = dataset.train.amplitude
    some = np.asarray(amplitude[:: max(1, len(amplitude) // _PATTERNS)])
    outside = some > brightest * (dataset.rms_amplitude * 1.001)  # not those that were rounded
    return float(some[outside].sum(dtype=np.float64) / some.sum(dtype=np.float64))


def probe_overlap(first: np.ndarray, second: np.ndarray) -> float:
    """|<P, Q>| of two probes (N, N) of power 1, the largest over shifts: 1 for the same one."""
    cross = np.fft.ifft2(np.fft.fft2(first) * np.fft.fft2(second).conj())
    return float(np.abs(cross).max() / (np.linalg.norm(first) * np.linalg.norm(second) + 1e-30))

"""A network, or none, on any data: ``python -m ptychofno.reconstruct RUN_DIR data=…``, or ``flat data=…``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ptychofno.config.errors import ConfigError, exit_codes
from ptychofno.display.text import duration, make_console
from ptychofno.runs import artifacts
from ptychofno.runs.naming import Recorded, read, says_settings, subject
from ptychofno.runs.standing import checkpoints, read_where_it_was, record_of, weights_of

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from ptychofno.data import PtychoDataset
    from ptychofno.evaluation import Evaluation

RECONSTRUCTIONS_DIR = "reconstructions"

FLAT = "flat"
_FORMATS = ("ptychodus", "cxi", "tiff")
_FLAT_ROUNDS = "refine.rounds=30"

_GROUPS = ("data", "probe", "model.output", "evaluation", "refine")
_SETTINGS = ("infer_batch_size", "trainer.accelerator", "trainer.num_threads", "trainer.matmul_precision")
_USAGE = """\
SETTING=VALUE changes what is reconstructed and how it is compared: data (data=measured data.path=scan.h5,
data.nphotons=1e5; a measured scan is cropped or binned to the network's size), probe, what becomes of the
network's patch (model/output=patch, model.output.rounds=16), rounds of overlap (refine=none,
refine.rounds=50), evaluation, infer_batch_size, trainer.accelerator, trainer.num_threads,
trainer.matmul_precision. What is not typed is as in training. The network gets the probe and the amplitude
scale of the data. With flat instead of a run, the rounds of overlap start from an object of constant
amplitude: the iterative solver alone, without a network."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ptychofno.reconstruct",
        description="Reconstruct an object with a trained network: from the test patterns of a simulated\n"
        "scan, or from all patterns of a measured one. The network's patches are stitched and the object\n"
        "is refined by rounds of overlap. Writes the object, a picture and the metrics.",
        epilog=_USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "run_dir",
        metavar="RUN_DIR",
        help="a finished run, such as outputs/control/control-seed1, or flat",
    )
    add("changes", metavar="SETTING=VALUE", nargs="*", help="see below")
    add(
        "--checkpoint",
        metavar="WHICH",
        default="judged",
        help="judged (the default): the one of metrics.json; best, last, epoch=7 (see trainer.keep_every)",
    )
    add("--config-dir", metavar="DIR", help="the folder of YAML files that name classes of your own")
    add(
        "--output",
        metavar="DIR",
        type=Path,
        help=f"where to write (default: RUN_DIR/{RECONSTRUCTIONS_DIR}/, or outputs/flat/, and a name)",
    )
    add(
        "--format",
        metavar="FORMAT",
        default="",
        help="also write a measured object as ptychodus (product.h5), cxi or tiff (16 bit); or as cxi,tiff",
    )
    args = parser.parse_intermixed_args(argv)
    with exit_codes():
        formats = [name for name in args.format.split(",") if name]
        reconstruct(args.run_dir, args.changes, args.checkpoint, args.output, args.config_dir, formats)


class Start(NamedTuple):
    """Where a reconstruction begins: a run's network, or nothing."""

    run_dir: Path | None
    values: dict[str, Any]
    record: dict[str, Any]
    weights: Path | None
    checkpoint: str

    @property
    def name(self) -> str:
        return FLAT if self.run_dir is None else self.run_dir.name

    @property
    def outputs(self) -> Path:
        return Path("outputs") / FLAT if self.run_dir is None else self.run_dir / RECONSTRUCTIONS_DIR


def reconstruct(
    run: str,
    changes: Sequence[str],
    checkpoint: str,
    output: Path | None,
    config_dir: str | None = None,
    formats: Sequence[str] = (),
) -> None:
    """Predict, stitch, refine, compare, write and show. Raises ConfigError for a mistake of the user."""
    _check_settings(changes)
    for name in formats:
        if name not in _FORMATS:
            raise ConfigError(f"--format={name}: expected {', '.join(_FORMATS)}")
    start = Start(None, {}, {}, None, "judged") if run == FLAT else _recorded(run, checkpoint)
    cfg = _settings_for(start, changes, config_dir)
    _bring_to_size(start, changes, cfg)
    name = _name(changes, start.checkpoint)
    where = output or start.outputs / name

    # Imported here: what is refused must not wait for torch.
    from ptychofno.config.records import resolved_yaml
    from ptychofno.data.probe import told_modes
    from ptychofno.display.terminal import show_metrics

    console = make_console()
    evaluation, about, dataset = _evaluated(start, cfg, changes, console, formats)
    _write(where, resolved_yaml(cfg), about, evaluation, f"{start.name}: {name}")
    if formats:
        from ptychofno.data.dataset import pattern_numbers
        from ptychofno.evaluation.export import write_formats

        write_formats(where, formats, evaluation, dataset, pattern_numbers(dataset, cfg.data.held_out_every))
    console.print(f"reconstructed and compared in {duration(about['seconds'])}")
    if evaluation.probe is not None and evaluation.probe.ndim > 2:
        console.print(told_modes(evaluation.probe), soft_wrap=True)
    show_metrics(console, where)


def _evaluated(
    start: Start, cfg: Any, changes: Sequence[str], console: Console, formats: Sequence[str]
) -> tuple[Evaluation, dict[str, Any], PtychoDataset]:
    """The reconstruction, what is written about where it comes from, and its data."""
    from ptychofno import build
    from ptychofno.config.records import settings
    from ptychofno.data.dataset import scan_positions
    from ptychofno.display.terminal import reading_bar, rounds_bar, tell_scan
    from ptychofno.evaluation import check_evaluable, judge
    from ptychofno.evaluation.export import check_formats
    from ptychofno.runs.weights import differences

    in_training = build.dataset_key(settings(cfg))
    if start.run_dir is None:
        _keep_given_probe(cfg, changes)
    plan = settings(cfg)
    key = build.dataset_key(plan)
    if start.run_dir and not any(change.partition("=")[0] == "data.cache_dir" for change in changes):
        read_where_it_was(plan, key, start.values["data"].get("cache_dir"))
    device = build.device(cfg)
    with build.reproducibly(cfg), build.as_config_errors():
        with reading_bar(console) as each_block:
            dataset = build.dataset(plan, each_block)
        check_evaluable(dataset)
        check_formats(formats, dataset.object_pixel_m, measured=plan.data.kind == "measured")
        network = None if start.run_dir is None else _network(start, cfg, dataset)
        patterns = len(scan_positions(dataset))
        by = "from a flat object" if start.run_dir is None else f"with {start.name} ({start.checkpoint})"
        console.print(
            f"reconstructing {by}: {patterns} patterns of"
            f" {dataset.N} x {dataset.N} of {dataset.name}, dataset {key}, on {build.device_name(device)}",
            soft_wrap=True,
        )
        tell_scan(console, dataset)
        if start.run_dir is not None:
            for line in differences(start.run_dir / artifacts.MODEL, start.values, dataset):
                console.print(f"note: {line}", style="red", soft_wrap=True)
        began = time.monotonic()
        with rounds_bar(console, plan.refine) as each_round:
            evaluation = judge(network, dataset, plan, device, each_round, sparse=True)
    about = {
        "run_dir": None if start.run_dir is None else str(start.run_dir),
        "checkpoint": start.checkpoint,
        "weights": None if start.weights is None else str(start.weights),
        "settings": list(changes),
        "trained_on": start.record.get("dataset_key"),
        "dataset": dataset.name,
        "dataset_key": key,
        # A measured scan has another key with its probe refined, as runs have it.
        "dataset_key_in_training": in_training,
        "patterns": patterns,
        "object_pixel_m": dataset.object_pixel_m,
        "seconds": time.monotonic() - began,
    }
    return evaluation, about, dataset


def _recorded(run: str, checkpoint: str) -> Start:
    """The run in a directory, and the checkpoint that is asked for."""
    found = subject(run)
    if says_settings(run) or not isinstance(found, Recorded) or found.run_dir is None:
        raise ConfigError(f"{run}: expected the directory of a run, or flat")
    (which, *more) = checkpoints(checkpoint)
    if more:
        raise ConfigError(f"--checkpoint={checkpoint}: expected one")
    record = record_of(found.run_dir)
    return Start(found.run_dir, read(found.file), record, weights_of(found.run_dir, record, which), which)


def _settings_for(start: Start, changes: Sequence[str], config_dir: str | None) -> Any:
    if start.run_dir is None:
        from ptychofno.config.composition import compose

        return compose([_FLAT_ROUNDS, *changes], config_dir=config_dir)
    from ptychofno.runs.recorded import recomposed

    file = start.run_dir / artifacts.CONFIG
    parts = ("model", "data", "probe", "refine")
    return recomposed(start.values, changes, file, config_dir=config_dir, parts=parts)


def _keep_given_probe(cfg: Any, changes: Sequence[str]) -> None:
    """Take the probe of a scan as its files give it: rounds from a flat object refine it themselves."""
    typed = {change.partition("=")[0] for change in changes}
    if cfg.probe._target_.endswith(".RefinedProbe") and not typed & {"probe", "probe.rounds"}:
        cfg.probe.rounds = 0


def _bring_to_size(start: Start, changes: Sequence[str], cfg: Any) -> None:
    """Give a measured scan of any size the network's, as far as nothing else is typed."""
    if start.run_dir is None or not cfg.data._target_.endswith(".MeasuredData"):
        return
    from ptychofno import build
    from ptychofno.config.records import settings
    from ptychofno.runs.weights import settings_for

    with build.as_config_errors():
        wanted = settings_for(settings(cfg).data, start.run_dir / artifacts.MODEL, changes)
    for key, value in wanted.items():
        *above, name = key.split(".")
        node = cfg
        for part in above:
            node = node[part]
        node[name] = value


def _network(start: Start, cfg: Any, dataset: Any) -> nn.Module:
    from ptychofno import build
    from ptychofno.runs import weights

    assert start.run_dir is not None
    _check_shape(dataset.train.amplitude.shape, weights.trained_shape(start.run_dir / artifacts.MODEL))
    return weights.recorded_generator(build.to_plain(cfg.model), dataset, start.weights, for_its_data=False)


def _write(where: Path, config: str, about: dict[str, Any], evaluation: Evaluation, title: str) -> None:
    from ptychofno.evaluation import draw_curves, write_evaluation

    try:
        where.mkdir(parents=True, exist_ok=True)
        artifacts.write_text(where / artifacts.CONFIG, config)
        artifacts.write_json(where / artifacts.SOURCE, about)
        write_evaluation(where, evaluation, title)
        if any(evaluation.rounds):
            draw_curves(where / artifacts.CURVES_FIGURE, None, None, title, evaluation.rounds)
    except OSError as error:
        raise ConfigError(f"--output={where}: cannot be written: {error.strerror}") from None


def _check_settings(changes: Sequence[str]) -> None:
    """Raise ConfigError for a word that is no setting, or sets what training has fixed."""
    for change in changes:
        key, equals, _ = change.partition("=")
        key = key.lstrip("+")
        if not equals:
            raise ConfigError(f"{change}: expected SETTING=VALUE; one run at a time")
        key = key.replace("/", ".")
        if key not in _SETTINGS and not f"{key}.".startswith(tuple(f"{group}." for group in _GROUPS)):
            free = ", ".join((*_GROUPS, *_SETTINGS))
            raise ConfigError(f"{change}: nothing is trained here, only {free} can be set")


def _name(changes: Sequence[str], which: str) -> str:
    """What to call the directory: by the settings, and by the checkpoint where it is not the default."""
    from ptychofno.runs.comparison import suffix

    said = suffix(changes) or "own-data"
    return said if which == "judged" else f"{said}-{which}"


def _check_shape(shape: tuple[int, ...], trained: tuple[int, int] | None) -> None:
    """Raise ConfigError for patterns of another size or number than the network is made for."""
    _, patches, size, _ = shape
    if trained is None or trained == (patches, size):
        return
    given, wanted = (f"{number} x {side} x {side}" for number, side in ((patches, size), trained))
    raise ConfigError(f"data: one sample is {given} (patterns x rows x columns); the network takes {wanted}")


if __name__ == "__main__":
    main()

"""A trained network on other data: ``python -m ptychofno.reconstruct RUN_DIR data=…``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from ptychofno import artifacts
from ptychofno.config.errors import ConfigError, exit_codes
from ptychofno.config.naming import Recorded, read, says_settings, subject
from ptychofno.config.text import make_console
from ptychofno.trained import checkpoints, read_where_it_was, record_of, weights_of

RECONSTRUCTIONS_DIR = "reconstructions"
SOURCE = "source.json"

_GROUPS = ("data", "probe", "model.output", "evaluation")
_SETTINGS = ("infer_batch_size", "trainer.accelerator", "trainer.num_threads", "trainer.matmul_precision")
_USAGE = """\
SETTING=VALUE changes what is looked at and how it is judged: data (data=measured data.path=scan.npz,
data.nphotons=1e5), probe, what becomes of the network's patch (model/output=patch, model.output.rounds=16),
evaluation, infer_batch_size, trainer.accelerator, trainer.num_threads, trainer.matmul_precision. Data, probe,
evaluation and infer_batch_size are as in training where they are not typed. The network is given the probe
and the amplitude scale of the data."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ptychofno.reconstruct",
        description="Give a trained network the test patterns of a simulated scan, or all patterns of a\n"
        "measured one, and put its patches together. Writes the object, a picture and the metrics.",
        epilog=_USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run_dir", metavar="RUN_DIR", help="a finished run, such as outputs/control/control-seed1")
    add("changes", metavar="SETTING=VALUE", nargs="*", help="see below")
    add(
        "--checkpoint",
        metavar="WHICH",
        default="judged",
        help="judged (the default), best, last or epoch=7 (kept by trainer.keep_every)",
    )
    add(
        "--output-dir",
        metavar="DIR",
        type=Path,
        help=f"where to write (default: RUN_DIR/{RECONSTRUCTIONS_DIR}/ and a name of the settings)",
    )
    args = parser.parse_intermixed_args(argv)
    with exit_codes():
        reconstruct(args.run_dir, args.changes, args.checkpoint, args.output_dir)


def reconstruct(run: str, changes: Sequence[str], checkpoint: str, output_dir: Path | None) -> None:
    """Predict, stitch, judge, write and show. Raises ConfigError for a mistake of the user."""
    found = subject(run)
    if says_settings(run) or not isinstance(found, Recorded) or found.run_dir is None:
        raise ConfigError(f"{run}: expected the directory of a run")
    _check_settings(changes)
    (which, *more) = checkpoints(checkpoint)
    if more:
        raise ConfigError(f"--checkpoint={checkpoint}: expected one")
    values, record = read(found.file), record_of(found.run_dir)
    weights = weights_of(found.run_dir, record, which)

    from ptychofno.config.recorded import recomposed

    cfg = recomposed(values, changes, found.file)
    name = _name(changes, which)
    where = output_dir or found.run_dir / RECONSTRUCTIONS_DIR / name

    # Imported here: what is refused must not wait for torch.
    from ptychofno import build, saved
    from ptychofno.config import resolved_yaml, settings
    from ptychofno.evaluation import check_evaluable, judge, write_evaluation
    from ptychofno.processes import Group
    from ptychofno.terminal import duration, show_metrics

    console = make_console()
    plan = settings(cfg)
    key = build.dataset_key(plan)
    if not any(change.partition("=")[0] == "data.cache_dir" for change in changes):
        read_where_it_was(plan, key, values["data"].get("cache_dir"))
    device = build.device(cfg)
    with build.reproducibly(cfg, Group()), build.told():
        dataset = build.dataset(plan)
        check_evaluable(dataset, stitch=plan.evaluation.stitch)
        _check_shape(dataset.train.amplitude.shape, saved.trained_shape(found.run_dir / artifacts.MODEL))
        network = saved.recorded_generator(build.plain(cfg.model), dataset, weights, for_its_data=False)
        patterns, _, size, _ = dataset.scan().amplitude.shape
        console.print(
            f"reconstructing with {found.run_dir.name} ({which.replace('=', ' ')}): {patterns} patterns of"
            f" {size} x {size} of {dataset.name}, dataset {key}, on {build.device_name(device)}",
            soft_wrap=True,
        )
        started = time.monotonic()
        with console.status("reconstructing"):
            evaluation = judge(network, dataset, plan, device)
        seconds = time.monotonic() - started
    source = {
        "run_dir": str(found.run_dir),
        "checkpoint": which,
        "weights": None if weights is None else str(weights),
        "settings": list(changes),
        "trained_on": record.get("dataset_key"),
        "dataset": dataset.name,
        "dataset_key": key,
        "patterns": patterns,
        "seconds": seconds,
    }
    try:
        where.mkdir(parents=True, exist_ok=True)
        artifacts.write_text(where / artifacts.CONFIG, resolved_yaml(cfg))
        artifacts.write_json(where / SOURCE, source)
        write_evaluation(where, evaluation, f"{found.run_dir.name}: {name}")
    except OSError as error:
        raise ConfigError(f"--output-dir={where}: cannot be written: {error.strerror}") from None
    console.print(f"reconstructed and judged in {duration(seconds)}")
    show_metrics(console, where)


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
            raise ConfigError(f"{change}: the network is trained, only {free} can be set")


def _name(changes: Sequence[str], which: str) -> str:
    """What to call the directory: by the settings, and by the checkpoint unless it is the judged one."""
    from ptychofno.config.run_dir import suffix

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

"""Per-layer statistics of trained and untrained networks: ``python -m ptychofno.activations RUN_DIR``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptychofno.config.errors import ConfigError, exit_codes
from ptychofno.display.text import make_console, printable
from ptychofno.runs import artifacts
from ptychofno.runs.naming import Composed, Recorded, read, says_settings, subject
from ptychofno.runs.standing import checkpoints, read_where_it_was, record_of, weights_of

if TYPE_CHECKING:
    from ptychofno.data import PtychoDataset

PATTERNS = 32
OUTPUT = "activations.json"
UNTRAINED_DIR = Path("outputs/activations")

# Typed of a run's data, these leave the data as they are.
_NOT_OF_THE_DATA = {"data.cache_dir", "data.batch_size", "data.drop_last"}
_TAKEN = {artifacts.RUN, artifacts.HISTORY, artifacts.METRICS, artifacts.STATS}
_TAKEN |= {artifacts.CURVES_FIGURE, artifacts.RECONSTRUCTION_FIGURE}
_USAGE = """\
Each NETWORK is one of
  a run directory   outputs/stage_a/control-seed1; the network of its metrics.json, or see --checkpoint
  an arm            control; untrained, as it starts with its seed
  overrides         +arm=stable, or in quotes "+arm=stable seed=3"; "default" is the run without any
  a YAML file       an arm's file, or a configuration such as the config.yaml of a run; untrained
SETTING=VALUE changes all of them: of a run the data (data.path=moved.npz, data=grid_lines), of an
untrained network anything (model.block.layerscale_init=0.1).

Columns, over all patterns, channels and pixels of what a layer returns
  mean, std, |a| 50, 95, 99 %   of its values, and quantiles of their modulus
  zeros                         share of the GELU's outputs that are 0
  DC, low freq.                 share of power at frequency 0; of the rest, at up to 1/8 cycle per pixel
  rank                          effective number of independent channels
  spec/local, update/in         rms of spectral over local branch; of a residual's update over its input
  layerscale, norm              mean modulus of these weights
  gradient, step/weight         norm of the gradient; rms of one optimizer step over that of the weights"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ptychofno.activations",
        description="Show what every layer of a network does to patterns of its dataset, and what training"
        " would do to its parameters. Writes JSON and a figure over depth.",
        epilog=_USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("words", metavar="NETWORK | SETTING=VALUE", nargs="+", help="one or more networks, see below")
    add(
        "--checkpoint",
        metavar="WHICH",
        help="of run directories: best, last, epoch=7 (kept by trainer.keep_every), epoch=0 (before training)"
        " or judged (the default): the one of metrics.json; several by commas: best,last or epoch=5,10",
    )
    add("--patterns", metavar="N", type=int, help=f"training patterns to run on (default: {PATTERNS})")
    add("--all", action="store_true", help="in the terminal, also the layers within a stage")
    add("--config-dir", metavar="DIR", help="the folder of YAML files that name classes of your own")
    add("--output", metavar="DIR", type=Path, help="where to write (default: the first run directory)")
    add("--output-name", metavar="NAME", default=OUTPUT, help=f"file name of the JSON (default: {OUTPUT})")
    args = parser.parse_intermixed_args(argv)
    with exit_codes():
        activations(args)


def activations(args: argparse.Namespace) -> None:
    """Find the networks, look into them, show and write. Raises ConfigError for a mistake of the user."""
    if args.patterns is not None and args.patterns < 1:
        raise ConfigError(f"--patterns={args.patterns}: expected an integer >= 1")
    inspected = networks_of(args.words, args.checkpoint, args.config_dir)
    where = args.output or next((one.run_dir for one in inspected if one.run_dir), UNTRAINED_DIR)
    file = where / output_name(args.output_name)

    # Imported here: what is refused must not wait for torch.
    from ptychofno.inspection.figure import draw_activations
    from ptychofno.inspection.terminal import show

    networks = observe(inspected, args.patterns)
    console = make_console()
    if not console.is_terminal:
        console.width = 160
    show(console, networks, parts=args.all)
    try:
        artifacts.write_json(file, {"networks": networks})
        draw_activations(file.with_suffix(".png"), networks)
    except OSError as error:
        raise ConfigError(f"--output={where}: cannot be written: {error.strerror}") from None
    console.print(f"{file}\n{file.with_suffix('.png')}", soft_wrap=True)


@dataclass(frozen=True)
class Inspected:
    """One network to look into, by its checked configuration."""

    title: str
    cfg: Any
    recorded: bool = False
    """Whether the configuration is from a file; its classes are then looked up among ours only."""
    run_dir: Path | None = None
    weights: Path | None = None
    """None for a network as it starts."""
    dataset_key: str | None = None
    """Of the data that it has to be run on; None for any."""
    cache_dir: str | None = None
    """Where its run found the data; None when it is said elsewhere."""


def networks_of(
    words: Sequence[str], checkpoint: str | None, config_dir: str | None = None
) -> list[Inspected]:
    """The networks that are named, each changed by all settings that are typed. Does without torch.

    Raises ConfigError for what is not there and for settings that are not valid.
    """
    changes = [word for word in words if not _names_network(word)]
    names = [word for word in words if _names_network(word)] or ["default"]
    subjects = {name: subject(name) for name in names}
    which = checkpoints(checkpoint or "judged")
    if checkpoint is not None and not any(isinstance(s, Recorded) and s.run_dir for s in subjects.values()):
        raise ConfigError(f"--checkpoint={checkpoint}: is for run directories, and none is named")
    inspected: list[Inspected] = []
    for name, found in subjects.items():
        title = printable(" ".join([name, *changes]))
        if isinstance(found, Composed):
            from ptychofno.config.composition import compose

            cfg = compose([*found.overrides, *changes], config_dir=found.config_dir or config_dir)
            inspected.append(Inspected(f"{title} (untrained)", cfg))
        else:
            inspected += _recorded(title, found, changes, which, config_dir)
    return inspected


def _recorded(
    title: str, found: Recorded, changes: Sequence[str], which: Sequence[str], config_dir: str | None
) -> Iterator[Inspected]:
    from ptychofno.runs.recorded import recomposed

    run_dir = found.run_dir
    for change in changes:
        if run_dir and re.match(r"\+*(model|study|seed)\b", change):
            raise ConfigError(
                f"{change}: the network of {run_dir} is trained, only its data, loss and optimizer can be"
                " changed; name its arm for an untrained one"
            )
    values = read(found.file)
    cfg = recomposed(values, changes, found.file, config_dir=config_dir)
    if run_dir is None:
        yield Inspected(f"{title} (untrained)", cfg, recorded=True)
        return
    record = record_of(run_dir)
    typed = {change.partition("=")[0].lstrip("+") for change in changes}
    elsewhere = any(re.match(r"(data|probe)\b", key) for key in typed - _NOT_OF_THE_DATA)
    for one in which:
        yield Inspected(
            f"{title} ({one.replace('=', ' ')})",
            cfg,
            recorded=True,
            run_dir=run_dir,
            weights=weights_of(run_dir, record, one),
            dataset_key=None if elsewhere else record.get("dataset_key"),
            cache_dir=None if "data.cache_dir" in typed else str(values["data"].get("cache_dir")),
        )


def output_name(name: str) -> str:
    """A name that ends in ``.json`` and is no other file of a run."""
    name = name if name.endswith(".json") else f"{name}.json"
    if Path(name).name != name or name == ".json":
        raise ConfigError(f"--output-name={name}: expected a file name; --output says where")
    if {name, Path(name).with_suffix(".png").name} & _TAKEN:
        raise ConfigError(f"--output-name={name}: a run has a file of that name; choose another")
    return name


def _names_network(word: str) -> bool:
    """Whether a word names a network, rather than changing a setting of all."""
    if not says_settings(word) or re.match(r"\+?arm=", word):
        return True
    listed = word.split()
    return len(listed) > 1 and all("=" in one for one in listed)


def observe(inspected: Sequence[Inspected], patterns: int | None) -> list[dict[str, Any]]:
    """Plain values on every network, in order; networks of one dataset see the same patterns.

    Everything is computed in 32 bits. The gradient is that of the run's loss over the patterns, the step
    the first one of its optimizer at its full learning rate, after its clipping.
    """
    datasets: dict[str, PtychoDataset] = {}
    return [_observe(one, patterns, datasets) for one in inspected]


def _observe(asked: Inspected, patterns: int | None, datasets: dict[str, PtychoDataset]) -> dict[str, Any]:
    import numpy as np

    from ptychofno import build
    from ptychofno.config.records import settings
    from ptychofno.inspection.network import inspect_network
    from ptychofno.models import SpectralConv2d
    from ptychofno.runs.weights import recorded_generator
    from ptychofno.train import setup
    from ptychofno.training.batches import parts
    from ptychofno.training.clipping import total_gradient_norm

    cfg = asked.cfg
    cfg.trainer.compile = False  # a compiled network runs past the hooks
    plan = settings(cfg)
    key = build.dataset_key(plan)
    if asked.dataset_key not in (None, key):
        raise ConfigError(
            f"{asked.run_dir}: was trained on dataset {asked.dataset_key}, its settings now give"
            f" {key}; say with data=… on which data to run it"
        )
    read_where_it_was(plan, key, asked.cache_dir)
    with build.reproducibly(cfg):
        if key not in datasets:
            datasets[key] = build.dataset(plan)
        dataset = datasets[key]
        present = len(dataset.train)
        if patterns is not None and patterns > present:
            raise ConfigError(f"--patterns={patterns}: the dataset has {present} training patterns")
        count = min(patterns or PATTERNS, present)
        chosen = np.sort(np.random.default_rng(0).choice(present, count, replace=False))
        if asked.recorded:
            network = recorded_generator(build.to_plain(cfg.model), dataset, asked.weights)
        else:
            network = build.generator(cfg, dataset)
        device = build.device(cfg)
        module = setup.experiment(cfg, dataset, network).to(device)
        amplitude, *where = (one.to(device) for one in parts(build.as_batch(dataset.train, chosen)))
        found = inspect_network(
            network,
            amplitude,
            lambda *batch: module.misfit(batch if len(batch) > 1 else batch[0]),
            make_optimizer=module.make_optimizer,
            clip=lambda moving: module.clip(moving, module.output_axes, total_gradient_norm(moving)),
            spectral=(SpectralConv2d,),
            batch_size=plan.data.batch_size,
            positions_px=where[0] if where else None,
        )
    return {
        "title": asked.title,
        "run_dir": None if asked.run_dir is None else str(asked.run_dir),
        "weights": None if asked.weights is None else str(asked.weights),
        "model": type(network).__name__,
        "dataset": dataset.name,
        "dataset_key": key,
        "patterns": len(chosen),
        **found,
    }


if __name__ == "__main__":
    main()

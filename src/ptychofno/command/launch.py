"""From the command line to Hydra, with mistakes told in one line before anything starts."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

import ptychofno
from ptychofno.command.line import is_repeated
from ptychofno.config.checks import settings_at
from ptychofno.config.composition import (
    REFUSALS,
    checked,
    compose,
    composed,
    current,
    job_restored,
    register,
    settle,
)
from ptychofno.config.errors import ConfigError, leave_unread, shown
from ptychofno.config.files import Files, refuse_hidden
from ptychofno.config.overrides import check_readable, combinations, normalised, parsed

Task = Callable[[DictConfig], Any]


def launch(task: Task, argv: list[str]) -> None:
    """What ``ptychofno.command.line.run`` promises. Raises ConfigError, or SystemExit when a job failed."""
    args = _parser().parse_intermixed_args(argv)
    files = Files(args.config_dir)
    if args.config_dir:
        refuse_hidden(Path(args.config_dir))
    overrides = [normalised(override) for override in args.overrides]
    multirun = args.multirun or "hydra.mode=MULTIRUN" in overrides
    if args.help:
        print(usage(files, checked(files, overrides)))
        return
    if multirun and (args.cfg or args.info or args.run):
        raise ConfigError("-m is for several runs; leave it out with --cfg, --info and --run")
    if args.cfg == "job" and not args.package:
        print(OmegaConf.to_yaml(compose(overrides, config_dir=args.config_dir), resolve=args.resolve), end="")
        return
    job = OneJob(task, argv, files, overrides)
    try:
        if args.cfg or args.info:
            checked(files, overrides)
        elif multirun:
            check_readable(overrides)
        elif not (args.hydra_help or args.shell_completion):
            cfg = composed(files, overrides)
            if _needs_nothing_of_hydra(cfg, overrides):
                with current(cfg):  # one run, as Hydra would start it after composing it twice more
                    job(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))
                return
        _through_hydra(job, [word for word in argv if word not in args.overrides])
    except JobFailed:
        raise SystemExit(1) from None


def _needs_nothing_of_hydra(cfg: DictConfig, overrides: list[str]) -> bool:
    typed = any(override.is_hydra_override() for override in parsed(overrides))
    return not (typed or cfg.hydra.callbacks or cfg.hydra.job.env_set)


def _through_hydra(job: OneJob, flags: list[str]) -> None:
    """Let Hydra do what the command line says."""
    register()
    main = hydra.main(config_path="pkg://ptychofno.conf", config_name="config", version_base="1.3")
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints exceptions in its own way
    try:
        with command_line([*job.overrides, *flags]), job_restored():
            main(job)()
    except (BrokenPipeError, ConfigError):
        raise
    except REFUSALS as error:
        # Sweeping or not, a mistake is told best with one of the values that a key is to take.
        for one in combinations(job.overrides):
            checked(job.files, one)
        raise ConfigError(f"{' '.join(job.overrides)}: {error}") from error
    except OSError as error:
        raise ConfigError(f"run_dir={error.filename}: cannot be made: {error.strerror}") from error
    finally:
        del os.environ["HYDRA_FULL_ERROR"]
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


class JobFailed(Exception):
    """A job's exception, whose traceback is printed already."""


@dataclass
class OneJob:
    """One job, as Hydra calls it; pickled when a launcher runs it in another process.

    ``typed`` is what the user typed, which a run records; Hydra's own command line is another.
    ``overrides`` are those among it.
    """

    task: Task
    typed: list[str]
    files: Files
    overrides: list[str]

    def __call__(self, cfg: DictConfig) -> Any:
        try:
            settle(cfg, self.files, self.overrides)
            hydra_node = HydraConfig.get()
            if hydra_node.mode != RunMode.MULTIRUN and (swept := hydra_node.sweeper.get("params")):
                raise ConfigError(
                    f"{' '.join(self.overrides)}: describes a sweep over {', '.join(swept)}; add -m"
                )
            with command_line(self.typed):
                return self.task(cfg)
        except ConfigError as error:
            if not is_repeated():
                print(error, file=sys.stderr)
            raise SystemExit(2) from None
        except BrokenPipeError:
            leave_unread()
            raise SystemExit(128 + signal.SIGPIPE) from None
        except Exception as error:
            traceback.print_exc()
            raise JobFailed(f"{type(error).__name__}: {error}") from None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        register()


def _parser() -> argparse.ArgumentParser:
    """Hydra's flags, to know them from overrides; Hydra itself reads them again."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = _refuse  # type: ignore[method-assign]
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--version", action="version", version=f"ptychofno {ptychofno.__version__}")
    parser.add_argument("--info", "-i", nargs="?", const="all")
    switches = (
        "--help -h",
        "--multirun -m",
        "--run -r",
        "--shell-completion -sc",
        "--hydra-help",
        "--resolve",
    )
    for flags in switches:
        parser.add_argument(*flags.split(), action="store_true")
    for flags in ("--cfg -c", "--package -p", "--config-dir -cd"):
        parser.add_argument(*flags.split())
    return parser


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message}; see --help")


@contextmanager
def command_line(argv: list[str]) -> Iterator[None]:
    """What ``sys.argv`` holds after the name of the program."""
    before = sys.argv
    sys.argv = [before[0], *argv]
    try:
        yield
    finally:
        sys.argv = before


# --- --help -----------------------------------------------------------------------------------

COMMAND = "python -m ptychofno.train"

# What people change most, in the order in which they ask for it.
_PROMINENT = (
    *("seed", "run_dir", "resume", "trainer.max_epochs", "trainer.accelerator", "optimizer.lr"),
    *("optimizer.weight_decay", "scheduler.warmup_epochs", "scheduler.min_ratio", "clip.value"),
    *("model.hidden_channels", "model.fno_blocks", "model.modes", "model.max_hidden_channels"),
    *("data.batch_size", "data.nphotons", "data.N", "data.gridsize", "data.path", "data.cache_dir"),
    "infer_batch_size",
)

_EXAMPLES = (
    ("", "the best known recipe on grid_lines_small"),
    ("+arm=stable_warmup", "one arm of the comparison"),
    ("+arm=agc optimizer.lr=2e-4 data=grid_lines", "any choice and any value can be changed"),
    ("-m +arm=control,stable,agc seed=1,2,3", "nine runs"),
    ("-m +study=stage_a seed=1,2,3", "every arm of Stage A; again: what is missing of it"),
    ("data=measured data.path=scan.npz", "a measured scan"),
    ("+arm=control trainer=ddp trainer.devices=2", "one run on two GPUs"),
)

_FLAGS = (
    ("-m, --multirun", "one run for every combination of comma-separated values"),
    ("-m hydra/launcher=joblib", "several runs at a time: hydra.launcher.n_jobs=2 (extra joblib)"),
    ("--cfg job [--resolve]", "print the configuration with every setting, and run nothing"),
    ("--info defaults", "print which file contributes what"),
    ("--config-dir DIR", "take further YAML files from DIR, laid out as conf/"),
    ("--hydra-help", "everything else that Hydra knows"),
)


def usage(files: Files, cfg: DictConfig) -> str:
    """What there is to choose and to set; the values are those of ``cfg``."""
    groups = {group: ", ".join(files.choices(group)) for group in files.groups}
    arms, studies = groups.pop("arm", ""), groups.pop("study", "")
    lines = [
        "Train one network on ptychography data without ground truth, and judge its reconstruction.",
        f"usage: {COMMAND} [+arm=ARM] [GROUP=CHOICE ...] [SETTING=VALUE ...] [FLAGS]",
        f"       {COMMAND} -m +study=STUDY [GROUP=CHOICE ...] [SETTING=VALUE,VALUE ...] [FLAGS]",
        *_section("Arms, ready-made combinations (+arm=ARM)", [(line, "") for line in wrap(arms, 100)]),
        *_section("Studies, whole comparisons (-m +study=STUDY)", [(studies, "")]),
        *_section("Groups (GROUP=CHOICE)", list(_choices(groups))),
        *_section("Settings most often changed (SETTING=VALUE)", list(_settings(cfg))),
        *_section("Examples", [(f"{COMMAND} {args}".rstrip(), why) for args, why in _EXAMPLES]),
        *_section("Flags", list(_FLAGS)),
    ]
    return "\n".join(lines)


def _choices(groups: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Group and choices, those of a group with many on several lines."""
    for group, choices in groups.items():
        first, *others = wrap(choices, 100)
        yield group, first
        yield from (("", line) for line in others)


def _settings(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    for key in _PROMINENT:
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if name in (known := settings_at(cfg, parent)) and name in node:
            value = "" if OmegaConf.is_missing(node, name) else shown(node[name])
            yield f"{key}={value}", known[name].doc


def _section(title: str, rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(left) for left, right in rows)
    return ["", f"{title}:", *(f"  {left:<{width}}  {right}".rstrip() for left, right in rows)]

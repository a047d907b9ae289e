"""From the command line to jobs: checks every job first and lets Hydra do the rest."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from ptychofno.config.composition import checked, job_restored
from ptychofno.config.diagnosis import REFUSALS, unreadable
from ptychofno.config.environment import without_environment
from ptychofno.config.errors import ConfigError, shown
from ptychofno.config.sources import CONFIG_NAME, CONFIG_PATH, Sources
from ptychofno.config.store import register
from ptychofno.config.usage import usage

Task = Callable[[DictConfig], Any]


def launch(task: Task, argv: list[str]) -> None:
    """What ``ptychofno.config.cli.run`` promises. Raises ConfigError, or SystemExit when a job failed."""
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    args = parser.parse_intermixed_args(argv)
    if args.multirun and (args.cfg or args.info):
        flag = "--cfg" if args.cfg else "--info"
        raise ConfigError(
            f"{flag} shows the configuration of one run; leave out -m, and give every key one value"
        )
    sources = Sources.open(args.config_dir, args.config_path, args.config_name)
    overrides = [sources.normalised(override) for override in args.overrides]
    flags = [word for word in argv if word not in args.overrides]
    multirun = args.multirun or "hydra.mode=MULTIRUN" in overrides
    if not (args.hydra_help or args.shell_completion or args.experimental_rerun):
        if args.help:
            print(usage(sources, checked(sources, overrides)))
            return
        _check_jobs(sources, _jobs(sources, overrides) if multirun else [overrides])
    with tempfile.TemporaryDirectory(prefix="ptychofno-sweep-") as scratch:
        if multirun and not any(o.startswith("hydra.sweep.dir=") for o in overrides):
            # Where Hydra puts its summary of a sweep; every run records its own part of it.
            overrides.append(f"hydra.sweep.dir={scratch}")
        _call_hydra(_Job(task, argv), [*overrides, *flags])


def _call_hydra(job: _Job, argv: list[str]) -> None:
    main = hydra.main(config_path=CONFIG_PATH, config_name=CONFIG_NAME, version_base="1.3")(job)
    try:
        with _command_line(argv), _environment("HYDRA_FULL_ERROR", "1"), job_restored():
            main()
    except JobFailed:
        raise SystemExit(1) from None
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"run_dir={error.filename}: cannot be made: {error.strerror}") from error


class JobFailed(Exception):
    """A job's exception, whose traceback is printed already."""


@dataclass
class _Job:
    """One job, as Hydra calls it; pickled when a launcher runs it in another process."""

    task: Task
    typed: list[str]
    """What the user typed, which a run records; Hydra's own command line is another."""

    def __call__(self, cfg: DictConfig) -> Any:
        with open_dict(cfg):
            cfg.run_dir = str(cfg.run_dir)
        try:
            with _command_line(self.typed):
                return self.task(cfg)
        except ConfigError as error:
            print(without_environment(cfg, str(error)), file=sys.stderr)
            raise SystemExit(2) from None
        except Exception as error:
            print(without_environment(cfg, traceback.format_exc()), end="", file=sys.stderr)
            raise JobFailed(f"{type(error).__name__}: {error}") from None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        register()


def _check_jobs(sources: Sources, jobs: list[list[str]]) -> None:
    taken: dict[str, list[str]] = {}
    for job in jobs:
        run_dir = str(checked(sources, job).run_dir)
        if run_dir in taken:
            raise ConfigError(
                f"run_dir={run_dir}: two jobs would share it: {shown(taken[run_dir])}, {shown(job)}"
            )
        taken[run_dir] = job


def _jobs(sources: Sources, overrides: list[str]) -> list[list[str]]:
    """The overrides of every job of a sweep, as Hydra's own sweeper will form them."""
    try:
        parsed = sources.parse([*_swept_by_files(sources, overrides), *overrides])
    except OverrideParseException as error:
        raise unreadable(error.override) from None
    if any(override.is_sweep_override() and not override.is_discrete_sweep() for override in parsed):
        # Only the sweeper chosen for such ranges knows its jobs.
        return [[str(o.input_line) for o in parsed if not o.is_sweep_override()]]
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    return jobs


def _swept_by_files(sources: Sources, overrides: list[str]) -> list[str]:
    """What a chosen file sweeps over in ``hydra.sweeper.params``."""
    try:
        cfg = sources.loader.load_configuration(sources.config_name, overrides, RunMode.MULTIRUN)
    except REFUSALS:
        return []  # Composing the jobs will meet the same mistake and tell it.
    return [f"{key}={value}" for key, value in (cfg.hydra.sweeper.get("params") or {}).items()]


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message}; see --help")


@contextmanager
def _command_line(argv: list[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = [before[0], *argv]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Keep Hydra from printing exceptions in its own way."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before

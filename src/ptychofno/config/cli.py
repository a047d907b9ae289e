"""The command line: checks everything first, lets Hydra do the rest, tells mistakes in one line."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ptychofno.config.composition import checked, job_restored
from ptychofno.config.diagnosis import REFUSALS, check_recipes, explain, unreadable
from ptychofno.config.errors import ConfigError
from ptychofno.config.job import Task
from ptychofno.config.launch import sweep
from ptychofno.config.sources import CONFIG_NAME, CONFIG_PATH, Sources
from ptychofno.config.store import register
from ptychofno.config.sweep import plan
from ptychofno.config.usage import usage


def run(task: Task, argv: Sequence[str] | None = None) -> None:
    """Run ``task`` with the configuration that the command line describes, once per job of a sweep.

    Nothing starts before every job's configuration is valid. Exit codes: 2 with one line on
    stderr for a mistake of the user (a ConfigError, also one that the task raises), 1 with its
    traceback for any other exception of the task, whatever SystemExit the task raises. A failed
    job does not keep the others of a sweep from running, which then ends with 1; a SystemExit does.
    """
    try:
        _run(task, list(sys.argv[1:] if argv is None else argv))
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _run(task: Task, argv: list[str]) -> None:
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    args = parser.parse_intermixed_args(argv)
    sources = Sources.open(args.config_dir, args.config_path, args.config_name)
    overrides = [sources.normalised(override) for override in args.overrides]
    flags = [word for word in argv if word not in args.overrides]
    multirun = args.multirun or "hydra.mode=MULTIRUN" in overrides
    if args.hydra_help or args.shell_completion or args.experimental_rerun:
        _call_hydra(task, [*overrides, *flags])
    elif args.help:
        print(usage(sources, checked(sources, overrides)))
    elif not multirun:
        swept = checked(sources, overrides).hydra.sweeper.get("params")
        if swept and not (args.cfg or args.info):
            raise ConfigError(f"{' '.join(overrides)}: describes a sweep over {', '.join(swept)}; add -m")
        _call_hydra(task, [*overrides, *flags])
    elif args.run or args.cfg or args.info:
        raise ConfigError("Only one of --run, --multirun, --cfg and --info at a time")
    else:
        _sweep(task, sources, overrides, flags)


def _sweep(task: Task, sources: Sources, overrides: list[str], flags: list[str]) -> None:
    check_recipes(overrides)
    parsed = _parsed(sources, overrides)
    hydra_only = [str(o.input_line) for o in parsed if o.is_hydra_override()]
    try:
        master = sources.loader.load_configuration(sources.config_name, overrides, RunMode.MULTIRUN)
    except REFUSALS as error:
        # Sweeping or not, a mistake is told best with one of the values that a key is to take.
        for job in _product([o for o in parsed if not o.is_hydra_override()]):
            checked(sources, [*job, *hydra_only])
        raise explain(sources, overrides, error) from error
    # Unresolved: what they refer to, such as the seed, differs from job to job.
    node = OmegaConf.to_container(master.hydra, resolve=False)
    assert isinstance(node, dict)
    params = [f"{key}={value}" for key, value in (node["sweeper"].get("params") or {}).items()]
    parsed = _parsed(sources, [*params, *node["overrides"]["task"]])
    discrete = all(o.is_discrete_sweep() for o in parsed if o.is_sweep_override())
    if not discrete or not str(master.hydra.sweeper._target_).endswith("BasicSweeper"):
        # Only the chosen sweeper knows its jobs, and each follows from those before.
        fixed = [str(o.input_line) for o in parsed if not o.is_sweep_override()]
        checked(sources, [*fixed, *hydra_only])
        with tempfile.TemporaryDirectory(prefix="ptychofno-sweep-") as scratch:
            # Where Hydra puts its summary of a sweep; every run records its own part of it.
            _call_hydra(task, [f"hydra.sweep.dir={scratch}", *overrides, *flags])
        return
    jobs = plan(sources, _product(parsed), hydra_only)
    with _command_line([*overrides, *flags]), job_restored():
        sweep(task, sources, master, jobs)


def _parsed(sources: Sources, overrides: list[str]) -> list[Override]:
    try:
        return sources.parse(overrides)
    except OverrideParseException as error:
        raise unreadable(error.override) from None


def _product(overrides: list[Override]) -> list[list[str]]:
    """The overrides of every job, as Hydra's own sweeper forms them."""
    (jobs,) = BasicSweeper.split_arguments(overrides, None)
    return jobs


def _call_hydra(task: Task, argv: list[str]) -> None:
    main = hydra.main(config_path=CONFIG_PATH, config_name=CONFIG_NAME, version_base="1.3")(_Job(task))
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

    def __call__(self, cfg: DictConfig) -> Any:
        with open_dict(cfg):
            cfg.run_dir = str(cfg.run_dir)
        try:
            return self.task(cfg)
        except ConfigError as error:
            print(error, file=sys.stderr)
            raise SystemExit(2) from None
        except Exception as error:
            traceback.print_exc()
            raise JobFailed(f"{type(error).__name__}: {error}") from None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        register()


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

"""From the command line to jobs: checks every one first, and hands over to Hydra or to ``sweep``."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

import ptychofno
from ptychofno.config.composition import checked, job_restored
from ptychofno.config.diagnosis import REFUSALS, check_unswept, explain, unreadable
from ptychofno.config.environment import without_environment
from ptychofno.config.errors import ConfigError, leave_unread
from ptychofno.config.job import Task
from ptychofno.config.naming import refuse_hidden
from ptychofno.config.plan import check_launcher, plan
from ptychofno.config.run_dir import settle
from ptychofno.config.sources import CONFIG_NAME, CONFIG_PATH, Sources
from ptychofno.config.store import register
from ptychofno.config.sweep import sweep
from ptychofno.config.usage import usage


def launch(task: Task, argv: list[str]) -> None:
    """What ``ptychofno.config.cli.run`` promises. Raises ConfigError, or SystemExit when a job failed."""
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    next(action for action in parser._actions if action.dest == "version").version = (  # type: ignore[attr-defined]
        f"ptychofno {ptychofno.__version__}"
    )
    args = parser.parse_intermixed_args(argv)
    if args.multirun and (args.cfg or args.info):
        flag = "--cfg" if args.cfg else "--info"
        raise ConfigError(
            f"{flag} shows the configuration of one run; leave out -m, and give every key one value"
        )
    if args.experimental_rerun:
        raise ConfigError(
            "--experimental-rerun: would execute what is in the file; a run goes on by its command"
        )
    sources = Sources.open(args.config_dir, args.config_path, args.config_name)
    if args.config_dir and not args.config_path:
        refuse_hidden(Path(args.config_dir))
    overrides = [sources.normalised(override) for override in args.overrides]
    flags = [word for word in argv if word not in args.overrides]
    multirun = args.multirun or "hydra.mode=MULTIRUN" in overrides
    if args.hydra_help or args.shell_completion:
        _call_hydra(_Job(task, argv), [*overrides, *flags])
    elif args.help:
        print(usage(sources, checked(sources, overrides)))
    elif multirun:
        if args.run:
            raise ConfigError("--run is for one run, --multirun (-m) for several; leave out one of them")
        _sweep(_Job(task, argv), sources, overrides, flags)
    else:
        swept = checked(sources, overrides).hydra.sweeper.get("params")
        if swept and not (args.cfg or args.info):
            raise ConfigError(f"{' '.join(overrides)}: describes a sweep over {', '.join(swept)}; add -m")
        _call_hydra(_Job(task, argv), [*overrides, *flags])


def _sweep(job: _Job, sources: Sources, overrides: list[str], flags: list[str]) -> None:
    check_unswept(overrides)
    parsed = _parsed(sources, overrides)
    hydra_only = [str(o.input_line) for o in parsed if o.is_hydra_override()]
    try:
        master = sources.loader.load_configuration(sources.config_name, overrides, RunMode.MULTIRUN)
    except REFUSALS as error:
        # Sweeping or not, a mistake is told best with one of the values that a key is to take.
        for one in _product([o for o in parsed if not o.is_hydra_override()]):
            checked(sources, [*one, *hydra_only])
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
        check_launcher(checked(sources, [*fixed, *hydra_only]))
        with tempfile.TemporaryDirectory(prefix="ptychofno-sweep-") as scratch:
            # Where Hydra puts its summary of a sweep; every run records its own part of it.
            _call_hydra(job, [f"hydra.sweep.dir={scratch}", *overrides, *flags])
            if (found := Path(scratch, "optimization_results.yaml")).exists():
                print(found.read_text(encoding="utf-8"), end="")
        return
    jobs = plan(sources, _product(parsed), hydra_only)
    with _command_line(job.typed), job_restored():
        sweep(job.task, sources, master, jobs)


def _parsed(sources: Sources, overrides: list[str]) -> list[Override]:
    try:
        return sources.parse(overrides)
    except OverrideParseException as error:
        raise unreadable(error.override) from None


def _product(overrides: list[Override]) -> list[list[str]]:
    """The overrides of every job, as Hydra's own sweeper forms them."""
    (jobs,) = BasicSweeper.split_arguments(overrides, None)
    return jobs


def _call_hydra(job: _Job, argv: list[str]) -> None:
    main = hydra.main(config_path=CONFIG_PATH, config_name=CONFIG_NAME, version_base="1.3")(job)
    try:
        with _command_line(argv), _environment("HYDRA_FULL_ERROR", "1"), job_restored():
            main()
    except JobFailed:
        raise SystemExit(1) from None
    except BrokenPipeError:
        raise
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
            settle(cfg)
        try:
            with _command_line(self.typed):
                return self.task(cfg)
        except ConfigError as error:
            print(without_environment(cfg, str(error)), file=sys.stderr)
            raise SystemExit(2) from None
        except BrokenPipeError:
            leave_unread()
            raise SystemExit(128 + signal.SIGPIPE) from None
        except Exception as error:
            print(without_environment(cfg, traceback.format_exc()), end="", file=sys.stderr)
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

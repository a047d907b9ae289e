"""From overrides, read by Hydra's own parser, to a checked configuration."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import product

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf, open_dict

from ptychofno.config.checks import check
from ptychofno.config.errors import ConfigError
from ptychofno.config.files import RECIPES, Files
from ptychofno.runs import place

CONFIG_MODULE, CONFIG_NAME = "ptychofno.conf", "config"


def compose(overrides: Sequence[str] = (), *, config_dir: str | None = None) -> DictConfig:
    """The configuration that ``python -m ptychofno.train`` would run with these overrides.

    ``run_dir`` is resolved, no state is left behind and none is needed. ``config_dir`` holds
    further YAML files. Raises ConfigError with one line for whatever is not valid.
    """
    cfg = checked(Files(config_dir), list(overrides))
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def checked(files: Files, overrides: list[str]) -> DictConfig:
    """The composed and validated configuration with a resolved ``run_dir`` and Hydra's own node."""
    overrides = [normalised(override) for override in overrides]
    cfg = composed(files, overrides)
    validate(cfg, files, overrides)
    return cfg


def composed(files: Files, overrides: list[str]) -> DictConfig:
    """``loaded``, with whatever Hydra refuses told in one line."""
    from ptychofno.config.diagnosis import REFUSALS, check_typed, explain

    check_typed(files, overrides)
    try:
        return loaded(files, overrides)
    except REFUSALS as error:
        raise explain(files, overrides, error) from error


def validate(cfg: DictConfig, files: Files, overrides: list[str], file: str | None = None) -> None:
    """Check a composed ``cfg`` in place, Hydra's node among it, and settle its ``run_dir``."""
    with current(cfg):
        settle(cfg, files, overrides, file)


def settle(cfg: DictConfig, files: Files, overrides: Sequence[str] = (), file: str | None = None) -> None:
    """Check the ``cfg`` of the current job and give its values their types and what they resolve to.

    Among them ``run_dir``, before Hydra forgets the job that it is named after.
    """
    typed = [o.key_or_group for o in parsed(overrides) if not (o.is_sweep_override() or is_choice(o, files))]
    with open_dict(cfg):
        check(cfg, files, typed, file)
        cfg.run_dir = os.path.expanduser(cfg.run_dir)


def loaded(files: Files, overrides: list[str]) -> DictConfig:
    """The composed configuration with Hydra's own node, unchecked; raises whatever Hydra raises.

    Of the same files composed once: the jobs of a sweep differ by their values.
    """
    found = parsed(overrides)
    chosen = tuple(str(o.input_line) for o in found if is_choice(o, files))
    if chosen not in files.composed:
        files.composed[chosen] = pickle.dumps(_of_choices(files.config_dir, chosen))
    cfg: DictConfig = pickle.loads(files.composed[chosen])  # five times as fast as a deepcopy
    for override in found:
        if is_choice(override, files):
            continue
        key, new = override.key_or_group, override.is_add() or override.is_force_add()
        if override.is_delete() or (override.is_add() and OmegaConf.select(cfg, key) is not None):
            raise ValueError(override.input_line)
        OmegaConf.update(cfg, key, override.value(), merge=True, force_add=new)
    cfg.hydra.overrides.task = [o.input_line for o in found if not o.is_hydra_override()]
    return cfg


def _of_choices(config_dir: str | None, chosen: tuple[str, ...]) -> DictConfig:
    register()
    with _hydra_of_its_own():
        return hydra_compose(CONFIG_NAME, [*searched(config_dir), *chosen], return_hydra_config=True)


def searched(config_dir: str | None) -> list[str]:
    """The override that adds a user's directory to where Hydra looks."""
    if config_dir is None:
        return []
    return [f"hydra.searchpath=[{json.dumps('file://' + os.path.abspath(config_dir))}]"]


@contextmanager
def _hydra_of_its_own() -> Iterator[None]:
    """Hydra keeps one loader per process: also while a job runs, composing must not touch that one."""
    instance = GlobalHydra.instance()
    before, instance.hydra = instance.hydra, None
    try:
        with job_restored(), initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


def register() -> None:
    """Make our resolvers known in this process. May be called any number of times."""
    setup_globals()
    OmegaConf.register_new_resolver("default_run_dir", place.of_current_job, replace=True)
    OmegaConf.register_new_resolver("absolute_path", place.absolute, replace=True)


@contextmanager
def current(cfg: DictConfig) -> Iterator[None]:
    """Let the resolvers see ``cfg`` as the current job's."""
    with job_restored():
        HydraConfig.instance().set_config(cfg)
        yield


@contextmanager
def job_restored() -> Iterator[None]:
    """Afterwards, Hydra's idea of the current job is what it was before."""
    holder = HydraConfig.instance()
    before = holder.cfg
    try:
        yield
    finally:
        holder.cfg = before


# --- overrides as they are typed -------------------------------------------------------------


def parsed(overrides: Sequence[str]) -> list[Override]:
    """Raises hydra's OverrideParseException."""
    return [_parsed(override) for override in overrides]


@lru_cache(maxsize=4096)  # the jobs of a sweep share most of theirs
def _parsed(override: str) -> Override:
    return OverridesParser.create().parse_overrides([override])[0]


def combinations(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of every job of a sweep; of several for one key the last counts, as with Hydra's own.

    Raises ConfigError for a sweep over other than a list of values.
    """
    values: dict[str, list[str]] = {}
    for override in parsed(overrides):
        key = override.get_key_element()
        swept = override.is_sweep_override()
        if swept and not override.is_discrete_sweep():
            raise ConfigError(f"{override.input_line}: expected a list of values, as in {key}=1,2")
        each = override.sweep_string_iterator() if swept else [override.get_value_element_as_str()]
        values[key] = [f"{key}={value}" for value in each]
    return [list(job) for job in product(*values.values())]


def is_choice(override: Override, files: Files) -> bool:
    """Whether an override chooses a file of a group, or concerns Hydra, rather than setting a value."""
    if override.is_hydra_override():
        return True
    return override.key_or_group in files.groups and not isinstance(override.value(), dict)


def normalised(override: str) -> str:
    """As Hydra wants it: ``arm=mine/a`` and ``arm/mine=a`` mean ``+arm=mine/a``, ``~`` is home."""
    group, equals, choice = place.with_home(override).partition("=")
    recipe, *folders = group.lstrip("+").split("/")
    if not (equals and recipe in RECIPES):
        return f"{group}{equals}{choice}"
    return f"+{recipe}={','.join('/'.join([*folders, one]) for one in choice.split(','))}"

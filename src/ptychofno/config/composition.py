"""From overrides to a checked configuration; and why Hydra refused to compose, in one line."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from ptychofno.config.checks import check, known_at, settings_at, unknown
from ptychofno.config.errors import ConfigError, did_you_mean, nearest, one_of, shown
from ptychofno.config.files import Files, shortened
from ptychofno.config.overrides import check_typed, is_choice, nearest_group, normalised, parsed
from ptychofno.runs import comparison

CONFIG_MODULE, CONFIG_NAME = "ptychofno.conf", "config"

REFUSALS = (HydraException, OmegaConfBaseException, YAMLError, ValueError, AssertionError)
"""What Hydra raises for a configuration that it cannot compose."""


def compose(overrides: Sequence[str] = (), *, config_dir: str | None = None) -> DictConfig:
    """The configuration that ``python -m ptychofno.train`` would run with these overrides.

    ``run_dir`` is resolved, no state is left behind and none is needed. ``config_dir`` holds
    further YAML files. Raises ConfigError with one line for whatever is not valid.
    """
    return without_hydra(checked(Files(config_dir), list(overrides)))


def checked(files: Files, overrides: list[str]) -> DictConfig:
    """The composed and validated configuration with a resolved ``run_dir`` and Hydra's own node."""
    overrides = [normalised(override) for override in overrides]
    cfg = composed(files, overrides)
    with current(cfg):
        settle(cfg, files, overrides)
    return cfg


def composed(files: Files, overrides: list[str]) -> DictConfig:
    """The composed configuration with Hydra's own node, its values not checked. Raises ConfigError."""
    check_typed(files, overrides)
    found = parsed(overrides)
    cfg = of_files(files, [str(one.input_line) for one in found if is_choice(one, files)])
    set_values(cfg, files, [one for one in found if not is_choice(one, files)])
    cfg.hydra.overrides.task = [one.input_line for one in found if not one.is_hydra_override()]
    return cfg


def of_files(files: Files, choices: Sequence[str]) -> DictConfig:
    """What the chosen files hold; composed once, as the jobs of a sweep differ by their values."""
    chosen = tuple(choices)
    try:
        if chosen not in files.composed:
            files.composed[chosen] = pickle.dumps(_of_choices(files.config_dir, chosen))
    except REFUSALS as error:
        raise explain(files, choices, error) from error
    cfg: DictConfig = pickle.loads(files.composed[chosen])  # five times as fast as a deepcopy
    return cfg


def set_values(cfg: DictConfig, files: Files, overrides: Sequence[Override]) -> None:
    """Give ``cfg`` what is typed. Raises ConfigError for a setting that it does not have."""
    for override in overrides:
        try:
            _set_value(cfg, files, override)
        except ConfigError:
            raise
        except REFUSALS as error:
            raise ConfigError(f"{override.input_line}: {str(error).splitlines()[0]}") from error


def _set_value(cfg: DictConfig, files: Files, override: Override) -> None:
    key, value, text = override.key_or_group, override.value(), str(override.input_line)
    added = override.is_add() or override.is_force_add()
    if override.is_delete():
        raise ConfigError(f"{text}: a setting cannot be removed; give {key} a value instead")
    parent, _, name = key.rpartition(".")
    around = OmegaConf.select(cfg, parent) if parent else cfg
    if around is not None and not OmegaConf.is_config(around):
        raise ConfigError(f"{key}: no such setting; did you mean {parent}?")
    if override.is_add() and OmegaConf.select(cfg, key) is not None:
        raise ConfigError(f"{text}: {key} exists already; write {key}={override.get_value_string()}")
    there = isinstance(around, DictConfig) and (name in around or OmegaConf.is_missing(around, name))
    if not there and not added and name in settings_at(cfg, parent):
        raise ConfigError(f"{text}: its file does not set it; write +{key}={override.get_value_string()}")
    try:
        OmegaConf.update(cfg, key, value, merge=True, force_add=added)
    except (ConfigKeyError, ConfigAttributeError) as error:
        full_key = key if key.startswith(f"{error.full_key}.") else str(error.full_key)
        guess = nearest_group(files, key) if full_key == key and "." not in key else None
        if guess and not nearest(key, [one for one in known_at(cfg, "") if not files.choices(one)]):
            raise ConfigError(f"{text}: no such group; did you mean {guess}={shown(value)}?") from error
        raise ConfigError(f"{full_key}{unknown(cfg, full_key, files)}") from error


def without_hydra(cfg: DictConfig) -> DictConfig:
    """``cfg`` without Hydra's own node."""
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def settle(cfg: DictConfig, files: Files, overrides: Sequence[str] = (), file: str | None = None) -> None:
    """Check the ``cfg`` of the current job and give its values their types and what they resolve to.

    Among them ``run_dir``, before Hydra forgets the job that it is named after.
    """
    typed = [o.key_or_group for o in parsed(overrides) if not (o.is_sweep_override() or is_choice(o, files))]
    with open_dict(cfg):
        check(cfg, files, typed, file)
        cfg.run_dir = os.path.expanduser(cfg.run_dir)


def _of_choices(config_dir: str | None, chosen: tuple[str, ...]) -> DictConfig:
    register()
    places = [] if config_dir is None else [json.dumps("file://" + os.path.abspath(config_dir))]
    searched = [f"hydra.searchpath=[{place}]" for place in places]
    with _hydra_of_its_own():
        return hydra_compose(CONFIG_NAME, [*searched, *chosen], return_hydra_config=True)


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
    OmegaConf.register_new_resolver("default_run_dir", comparison.of_current_job, replace=True)
    OmegaConf.register_new_resolver("absolute_path", comparison.absolute, replace=True)


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


# --- mistakes in files ------------------------------------------------------------------------


def explain(files: Files, choices: Sequence[str], error: Exception) -> ConfigError:
    """The one line for an ``error`` that composing ``choices`` raised: a mistake in one of their files."""
    message = " ".join(str(error).split())
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return ConfigError(f"{shortened(mark.name)}, line {mark.line + 1}: {error.problem}")
    missing = error.missing_cfg_file if isinstance(error, MissingConfigException) else None
    overridden = re.search(r"Could not override '([^']+)'\. No match", message)
    if named := missing or (overridden and overridden[1]):
        return ConfigError(
            _naming(files, choices, named, missing is None) + _explain_named(files, choices, named)
        )
    if inside := re.match(r"In '([^']+)': ", message):
        config, message = inside[1], message[inside.end() :]
        if not files.content_of(config):
            message = "expected settings, one 'key: value' per line"
        return ConfigError(f"{shortened(files.file_of(config) or config)}: {message}")
    return ConfigError(f"{' '.join(choices)}: {message}" if choices else message)


def _explain_named(files: Files, choices: Sequence[str], named: str) -> str:
    """``named`` is a config or a group in some defaults list, and is not there."""
    group, _, name = named.rpartition("/")
    extra = name.partition("_")[0]
    if named in files.groups:
        chosen = next((one for one in choices if one.startswith(f"{group}=")), f"the chosen {group}")
        return f"{named}: {chosen} has no {named}"
    if group == "hydra/launcher" and extra in ("joblib", "submitit"):
        return f"{group}={name}: needs pip install 'ptychofno[{extra}]'"
    if known := files.choices(group) if group else []:
        return f"{group}={name}: {one_of(name, known)}"
    return f"{named}: no such group{did_you_mean(group or named, files.groups)}"


def _naming(files: Files, choices: Sequence[str], wanted: str, overriding: bool) -> str:
    """``FILE: `` for the chosen file whose defaults list names a config or group, or nothing."""
    for choice in [*reversed(choices), "config"]:
        for config in files.bases_of(choice.lstrip("+").replace("=", "/")):
            listed = [name for name, overrides in files.defaults_of(config) if overrides or not overriding]
            if any(f"{name}/".startswith(f"{wanted}/") for name in listed):
                return f"{shortened(files.file_of(config))}: "
    return ""

"""A composed configuration against what its parts declare: unknown, missing and out-of-range settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ptychofno.config.declared import Hint, Setting, declared
from ptychofno.config.errors import ConfigError, nearest, shown
from ptychofno.config.files import RECIPES, Files, shortened
from ptychofno.config.limits import Violation, converted, expectation

ROOT = "ptychofno.config.schema.Config"
"""What declares the settings at the top."""

_DIRECTORY_NAME = r"\w[\w.-]*"
# Where the environment may say what differs from machine to machine: it is written down as any value is.
_PATHS = ("run_dir", "data.cache_dir", "data.path", "probe.path", "init_from")
_MISSING, _ABSENT = "???", object()
_INTERVAL = Setting("interval", Hint(str, choices=("epoch", "step")), "when the schedule is stepped")


def check(cfg: DictConfig, files: Files, typed: list[str], file: str | None = None) -> None:
    """Give ``cfg`` declared types and defaults; raise ConfigError for the first setting that is refused.

    ``typed`` are the dotted keys of the command line; of any other setting the file that sets it is named, or
    ``file``, the record of a run that they come from, which says nothing of training.
    """
    choices = HydraConfig.get().runtime.choices
    chosen = {group: str(name) for group, name in choices.items() if name is not None}
    for key, problem in _complaints(cfg, files):
        plain = key.split("[")[0]
        said = any(f"{plain}.".startswith(f"{one}.") or one.startswith(f"{plain}.") for one in typed)
        said = said or problem.startswith(": needs a value: ")
        source = None if said else file or files.setter_of(plain, chosen)
        if plain in RECIPES:
            source = shortened(files.file_of(f"{plain}/{chosen[plain]}"))
            raise ConfigError(f'{source}: expected "# @package _global_" as its first line')
        raise ConfigError(f"{source}: {key}{problem}" if source else f"{key}{problem}")
    _check_together(cfg, chosen)
    if file is None:
        _check_training(cfg)


def _check_together(cfg: DictConfig, chosen: Mapping[str, str]) -> None:
    """What several settings say of each other, and names of directories."""
    if "$" in cfg.run_dir:
        raise ConfigError(f"run_dir={cfg.run_dir}: expected a directory, without '$'")
    if "name" in cfg.data and not re.fullmatch(_DIRECTORY_NAME, str(cfg.data.name)):
        raise ConfigError(
            f"data.name={cfg.data.name}: expected the name of a directory: letters, digits, '_', '.', '-',"
            " the first a letter, digit or '_'"
        )
    simulated = str(cfg.data.get("_target_")).startswith("ptychofno.data.objects.")
    if simulated and str(cfg.probe.get("_target_")).endswith((".DatasetProbe", ".RefinedProbe")):
        raise ConfigError(
            f"probe={chosen.get('probe')}: only data=measured brings a probe; "
            "expected one of aperture, gaussian, npz"
        )


def _check_training(cfg: DictConfig) -> None:
    if cfg.trainer.strategy != "ddp":
        for name, alone in (("devices", None), ("num_nodes", 1)):
            if cfg.trainer[name] != alone:
                raise ConfigError(
                    f"trainer.{name}={cfg.trainer[name]}: one process trains; add trainer=ddp for several"
                )
    elif cfg.trainer.devices is not None:
        check_divisible(cfg.data.batch_size, cfg.trainer.devices * cfg.trainer.num_nodes)
    if cfg.trainer.keep_every is not None and not cfg.enable_checkpointing:
        raise ConfigError(f"trainer.keep_every={cfg.trainer.keep_every}: needs enable_checkpointing=true")


def check_divisible(batch_size: int, processes: int) -> None:
    """Raise ConfigError when a batch cannot be shared out evenly."""
    if batch_size % processes:
        below = batch_size - batch_size % processes
        near = " or ".join(str(size) for size in (below, below + processes) if size)
        raise ConfigError(
            f"data.batch_size={batch_size}: the batch of all {processes} processes together, "
            f"expected a multiple of {processes}; the nearest is {near}"
        )


def unknown(cfg: DictConfig, key: str, files: Files) -> str:
    """What to say of a setting ``key`` that ``cfg`` does not have."""
    parent, _, name = key.rpartition(".")
    siblings = [one for one in known_at(cfg, parent) if not one.startswith("_") and one != name]
    while parent and OmegaConf.select(cfg, parent) is None:
        parent, _, name = parent.rpartition(".")
    group, owners = files.owners_of(f"{parent}.{name}")
    if owners and not nearest(name, siblings, cutoff=0.75):
        return f": no such setting of the chosen {group}; it belongs to {group}={', '.join(owners)}"
    guess = nearest(name, siblings)
    if guess:
        return f": no such setting; did you mean {f'{parent}.{guess}' if parent else guess}?"
    everywhere = [one for one in _keys(cfg, "") if not f"{key}.".startswith(f"{one}.")]
    same_name = [one for one in everywhere if one.rpartition(".")[2] == name]
    guess = same_name[0] if same_name else None if siblings and parent else nearest(key, everywhere)
    if guess:
        return f": no such setting; did you mean {guess}?"
    return f": no such setting; {f'{parent} has' if parent else 'there are'} {', '.join(siblings) or 'none'}"


def known_at(cfg: DictConfig, parent: str) -> list[str]:
    """The names of the settings below ``parent``: those that its class declares, else those it has."""
    node = OmegaConf.select(cfg, parent) if parent else cfg
    return list(settings_at(cfg, parent) or (map(str, node) if isinstance(node, DictConfig) else ()))


def settings_at(cfg: DictConfig, parent: str) -> dict[str, Setting]:
    """What is declared for the settings below ``parent``."""
    node = OmegaConf.select(cfg, parent) if parent else cfg
    return (_declared_by(node, parent) if isinstance(node, DictConfig) else None) or {}


def _declared_by(node: Mapping[Any, Any], key: str) -> dict[str, Setting] | None:
    if not key:
        return declared(ROOT)
    if (target := node.get("_target_", _MISSING)) != _MISSING:
        found = declared(str(target))
        return {**found, "interval": _INTERVAL} if found is not None and key == "scheduler" else found
    own = (declared(ROOT) or {}).get(key)
    return declared(own.hint.nested) if own is not None and own.hint.nested else None


def _keys(node: DictConfig, prefix: str) -> Iterator[str]:
    for name in map(str, node):
        if name.startswith("_") or f"{prefix}{name}" == "hydra":
            continue
        yield f"{prefix}{name}"
        child = None if OmegaConf.is_missing(node, name) else node._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none():
            yield from _keys(child, f"{prefix}{name}.")


def _complaints(cfg: DictConfig, files: Files) -> Iterator[tuple[str, str]]:
    """Key and complaint of everything wrong with ``cfg``; gives its values their types and defaults."""
    names = [name for name in map(str, cfg) if name != "hydra"]
    raw = {name: cfg._get_node(name) for name in names}
    references = [(key, text) for name in names for key, text in _texts(raw[name], name) if "${" in text]
    for key, text in references:
        if "oc.env" in text and not f"{key}.".startswith(tuple(f"{path}." for path in _PATHS)):
            paths = ", ".join(_PATHS)
            yield (
                key,
                f"={text}: a run records its settings, so only paths may come from the environment ({paths})",
            )
        try:
            OmegaConf.select(cfg, key)
        except OmegaConfBaseException as error:
            parent, _, name = key.partition("[")[0].rpartition(".")
            setting = settings_at(cfg, parent).get(name)
            expected = f"{expectation(setting.hint)}, but " if setting else ""
            yield key, f"={shown(text)}: {expected}{str(error).splitlines()[0]}"
    values = {name: _MISSING if OmegaConf.is_missing(cfg, name) else _plain(cfg[name]) for name in names}
    yield from _problems(cfg, values, "", declared(ROOT) or {}, files)


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _problems(
    cfg: DictConfig, values: Mapping[str, Any], prefix: str, settings: Mapping[str, Setting], files: Files
) -> Iterator[tuple[str, str]]:
    """Key and complaint of everything wrong with the ``values`` below ``prefix``; fills defaults in."""
    for name in values:
        if name not in settings and not name.startswith("_"):
            yield f"{prefix}{name}", unknown(cfg, f"{prefix}{name}", files)
    for name, setting in settings.items():
        key, value = f"{prefix}{name}", values.get(name, _ABSENT)
        if value is _ABSENT and setting.has_default and setting.doc:
            value = setting.default
            OmegaConf.update(cfg, key, value, force_add=True)
        elif value == _MISSING or (value is _ABSENT and setting.needed):
            yield key, f": needs a value{f': {setting.doc}' if setting.doc else ''}"
        if value is not _ABSENT and value != _MISSING:
            yield from _problems_of_value(cfg, value, key, setting, files)


def _problems_of_value(
    cfg: DictConfig, value: Any, key: str, setting: Setting, files: Files
) -> Iterator[tuple[str, str]]:
    group = key.replace(".", "/")
    if isinstance(value, dict):
        yield from _problems_of_part(cfg, value, key, files)
    elif value is None and setting.hint.optional:
        return
    elif setting.hint.nested or (group in files.groups and group not in RECIPES):
        yield key, f"={shown(value)}: expected settings; a choice is written {group}=CHOICE"
    else:
        found = converted(value, setting.hint)
        if isinstance(found, Violation):
            yield f"{key}{found.where}", f"={shown_as_typed(found.value)}: {found.expected}"
        elif type(found) is not type(value):
            OmegaConf.update(cfg, key, found)


def _problems_of_part(
    cfg: DictConfig, values: dict[str, Any], key: str, files: Files
) -> Iterator[tuple[str, str]]:
    known = _declared_by(values, key)
    if known is not None:
        yield from _problems(cfg, values, f"{key}.", known, files)
    elif (
        key.replace(".", "/") in files.groups
        and key != "logger"
        and not isinstance(values.get("_target_"), str)
    ):
        yield f"{key}._target_", ": needs a value: the class, as package.module.Class"
    else:  # somebody else's class, which checks its settings itself
        yield from (
            (each, ": needs a value") for each, text in sorted(_texts(values, key)) if text == _MISSING
        )


def shown_as_typed(value: Any) -> str:
    """64.0 is refused where 64 is not."""
    return str(value) if isinstance(value, float) and value.is_integer() else shown(value)


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Key and text of every text in a value; a node of OmegaConf's is not resolved."""
    if isinstance(value, Node):
        value = OmegaConf.to_container(value, resolve=False) if OmegaConf.is_config(value) else value._value()
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _texts(entry, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _texts(entry, f"{key}[{index}]")
    elif isinstance(value, str):
        yield key, value

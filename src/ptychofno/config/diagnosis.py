"""Why Hydra refused to compose: its exceptions, told in one line with the nearest valid choice."""

from __future__ import annotations

import os
import re
import shlex
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError
from yaml import MarkedYAMLError, YAMLError

from ptychofno.config.errors import ConfigError, nearest, one_of, shown
from ptychofno.config.limits import element_of, expectation
from ptychofno.config.sources import Sources, shortened
from ptychofno.config.store import SCHEMAS
from ptychofno.config.validation import declared, unknown

REFUSALS = (HydraException, OmegaConfBaseException, YAMLError, ValueError, AssertionError)
"""What Hydra raises for a configuration that it cannot compose."""

_PLACES = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.output_subdir")

_UNUSED = re.compile(r"Could not override '([^']+)'\. No match")


def check_typed(sources: Sources, overrides: list[str]) -> None:
    """Raise ConfigError for an override that can be refused without composing anything."""
    check_unswept(overrides)
    for text in overrides:
        try:
            (override,) = sources.parse([text])
        except OverrideParseException:
            raise unreadable(text) from None
        if not override.key_or_group:
            raise unreadable(text)
        if override.is_sweep_override():
            raise ConfigError(f"{text}: several values need --multirun (-m); a list is written [a,b]")
        if not override.is_hydra_override():
            _check_group(sources, override)


def check_unswept(overrides: list[str]) -> None:
    """Raise ConfigError for what is wrong with all jobs of a sweep at once.

    That is another search path, a place of Hydra's own outputs, and two arms or two studies: the second
    would silently replace the first.
    """
    for text in overrides:
        if text.lstrip("+").startswith("hydra.searchpath="):
            raise ConfigError(f"{text}: further YAML files are taken from --config-dir DIR")
        if text.lstrip("+~").partition("=")[0] in _PLACES:
            raise ConfigError(f"{text}: has no effect; run_dir=… says where a run is written")
    for recipe, advice in (("arm", "several in turn by -m +arm={}"), ("study", "a study is a sweep already")):
        chosen = [text for text in overrides if text.startswith(f"+{recipe}=")]
        if len(chosen) > 1:
            names = ",".join(text.partition("=")[2] for text in chosen)
            raise ConfigError(f"{' '.join(chosen)}: one {recipe} at a time; {advice.format(names)}")


def unreadable(text: str) -> ConfigError:
    """For an override outside Hydra's grammar: with the form that it takes."""
    key, equals, value = text.partition("=")
    if not (equals and value) or not re.fullmatch(r"\+*[\w./]+", key) or set(value) & set("\"'\\{}[]"):
        return ConfigError(f"{text}: cannot be read; write key=value, and quote what has special characters")
    quoted = shlex.quote(f'{key}="{value}"')
    return ConfigError(f"{text}: cannot be read; write {quoted}")


def _check_group(sources: Sources, override: Override) -> None:
    groups = sources.groups()
    name, value, text = override.key_or_group, override.value(), str(override.input_line)
    if override.package is not None:
        raise ConfigError(f"{text}: expected {name}=…, without @{override.package}")
    if name in groups:
        if override.is_delete():
            raise ConfigError(f"{text}: a group needs a choice; {one_of('', sources.choices(name))}")
        if isinstance(value, dict):
            return
        if value not in sources.choices(name) and not (value and sources.has(f"{name}/{value}")):
            raise ConfigError(f"{name}={shown(value)}: {one_of(shown(value), sources.choices(name))}")
        if override.is_add() and not sources.is_recipe(name):
            raise ConfigError(f"{text}: {name} has a choice already; write {name}={value}")
    elif "/" in name or (override.is_add() and "." not in name):
        guess = nearest(name, groups)
        plus = "+" if guess and sources.is_recipe(guess) else ""
        hint = f"did you mean {plus}{guess}={shown(value)}?" if guess else f"groups are {', '.join(groups)}"
        raise ConfigError(f"{text}: no such group; {hint}")


def explain(sources: Sources, overrides: list[str], error: Exception) -> ConfigError:
    """The one line for an ``error`` that composing ``overrides`` raised."""
    parsed = sources.parse(overrides)
    groups = [str(o.input_line) for o in parsed if sources.is_choice(o)]
    try:
        base = sources.load(groups)
    except REFUSALS as refusal:
        return _explain_files(sources, groups, refusal)
    for override in parsed:
        if str(override.input_line) in groups:
            continue
        try:
            problem = _explain_value(sources, base, override)
        except REFUSALS as refusal:
            problem = f"{override.input_line}: {str(refusal).splitlines()[0]}"
        if problem:
            return ConfigError(problem)
    return ConfigError(f"{' '.join(overrides)}: {error}")


# --- overrides of single settings ------------------------------------------------------------


def _explain_value(sources: Sources, base: DictConfig, override: Override) -> str | None:
    key, value, text = override.key_or_group, override.value(), str(override.input_line)
    if override.is_delete():
        return f"{text}: a setting cannot be removed; give {key} a value instead"
    parent, _, name = key.rpartition(".")
    around = OmegaConf.select(base, parent) if parent else base
    if around is not None and not OmegaConf.is_config(around):
        return f"{key}: no such setting; did you mean {parent}?"
    if override.is_add() and isinstance(around, DictConfig) and name in list(around):
        return f"{text}: {key} exists already; write {key}={override.get_value_string()}"
    try:
        OmegaConf.update(base, key, value, merge=True)
    except (ConfigKeyError, ConfigAttributeError) as error:
        full_key = key if key.startswith(f"{error.full_key}.") else str(error.full_key)
        guess = nearest(key, sources.groups()) if full_key == key and "." not in key else None
        if guess and not nearest(key, [k for k in declared(base) or {} if k not in SCHEMAS]):
            plus = "+" if sources.is_recipe(guess) else ""
            return f"{text}: no such group; did you mean {plus}{guess}={shown(value)}?"
        return f"{full_key}{unknown(base, full_key)}"
    except ValidationError as error:
        return explain_type(base, str(error.full_key or key), value, error)
    return None


def explain_type(cfg: DictConfig, key: str, value: Any, error: ValidationError) -> str:
    """``key=value: `` and what the schema expects there instead."""
    if error.value is not None:
        value = error.value
    parent, _, name = key.partition("[")[0].rpartition(".")
    settings = declared(OmegaConf.select(cfg, parent) if parent else cfg) or {}
    if name not in settings:
        return f"{key}={shown(value)}: {str(error).splitlines()[0]}"
    field, hint = settings[name]
    if "[" in key:
        hint = element_of(hint)
    # As typed: 64.0 is refused where 64 is not.
    typed = str(value) if isinstance(value, float) else shown(value)
    return f"{key}={typed}: {expectation(hint, field.metadata, value)}"


# --- files -----------------------------------------------------------------------------------


def _explain_files(sources: Sources, overrides: list[str], error: Exception) -> ConfigError:
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return ConfigError(f"{shortened(mark.name)}, line {mark.line + 1}: {error.problem}")
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _explain_choice(sources, overrides, error.missing_cfg_file)
    message = str(error)
    inside = re.match(r"In '([^']+)': ", message)
    if inside is None and (override := _UNUSED.match(message)):
        return ConfigError(_explain_group(sources, overrides, override[1]))
    if inside is None:
        return ConfigError(f"{' '.join(overrides)}: {message}" if overrides else message)
    config, rest = inside[1], message[inside.end() :]
    file = sources.file_of(config)
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OmegaConfBaseException):
        return ConfigError(f"{file}: {_explain_merge(sources, overrides, config, cause)}")
    if override := _UNUSED.match(rest):
        return ConfigError(f"{file}: {_explain_group(sources, overrides, override[1])}")
    return ConfigError(f"{file}: {rest}")


def _explain_choice(sources: Sources, overrides: list[str], choice: str) -> ConfigError:
    """``choice`` is a config that some defaults list names and no directory holds."""
    group, _, name = choice.rpartition("/")
    file = sources.chooser_of(choice, overrides)
    extra = name.partition("_")[0]
    if group == "hydra/launcher" and extra in ("joblib", "submitit"):
        problem = f"{group}={name}: needs pip install 'ptychofno[{extra}]'"
    elif choice == sources.config_name:
        problem = f"--config-name {choice}: no such file"
    elif choices := sources.choices(group):
        problem = f"{group}={name}: {one_of(name, choices)}"
    else:
        guess = nearest(group, sources.groups())
        problem = f"{choice}: no such group{f'; did you mean {guess}?' if guess else ''}"
    return ConfigError(f"{file}: {problem}" if file else problem)


def _explain_group(sources: Sources, overrides: list[str], group: str) -> str:
    """``group`` is overridden, but nothing that is chosen has it."""
    parent = os.path.dirname(group)
    if parent and group in sources.groups():
        chosen = next((o for o in overrides if o.startswith(f"{parent}=")), f"the chosen {parent}")
        return f"{group}: {chosen} has no {group}"
    guess = nearest(group, sources.groups())
    return f"{group}: no such group{f'; did you mean {guess}?' if guess else ''}"


def _explain_merge(sources: Sources, overrides: list[str], config: str, cause: OmegaConfBaseException) -> str:
    content, key = sources.content_of(config), str(cause.full_key or "")
    if not isinstance(content, dict):
        return "expected settings, one 'key: value' per line"
    unknown_key = isinstance(cause, (ConfigKeyError, ConfigAttributeError))
    if unknown_key and key == os.path.dirname(config).replace("/", "."):
        return 'expected "# @package _global_" as its first line'
    try:
        base = sources.without(config).load(overrides)
    except REFUSALS:
        return str(cause).splitlines()[0]
    if unknown_key:
        return f"{key}{unknown(base, key)}"
    if isinstance(cause, ValidationError) and key:
        return explain_type(base, key, None, cause)
    for name, value in content.items():
        if name in SCHEMAS and not isinstance(value, dict):
            return f"{name}={shown(value)}: expected settings; a choice goes in the defaults list"
    return str(cause).splitlines()[0]

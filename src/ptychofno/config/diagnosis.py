"""Why Hydra refused to compose: its exceptions, told in one line with the nearest valid choice."""

from __future__ import annotations

import re
import shlex

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError
from yaml import MarkedYAMLError, YAMLError

from ptychofno.config.checks import known_at, settings_at, unknown
from ptychofno.config.composition import is_choice, loaded, parsed
from ptychofno.config.errors import ConfigError, did_you_mean, nearest, one_of, shown
from ptychofno.config.files import RECIPES, Files, shortened

REFUSALS = (HydraException, OmegaConfBaseException, YAMLError, ValueError, AssertionError)
"""What Hydra raises for a configuration that it cannot compose."""

_PLACES = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.output_subdir")


def check_typed(files: Files, overrides: list[str]) -> None:
    """Raise ConfigError for an override that can be refused without composing anything."""
    for override in check_readable(overrides):
        text = override.input_line
        if override.is_sweep_override():
            raise ConfigError(f"{text}: several values need --multirun (-m); a list is written [a,b]")
        if not override.is_hydra_override():
            _check_group(files, override)


def check_readable(overrides: list[str]) -> list[Override]:
    """The overrides as Hydra reads them. Raises ConfigError for what is wrong with all jobs of a sweep.

    That is what cannot be read, another search path, a place of Hydra's own outputs, and two arms or two
    studies: the second would silently replace the first.
    """
    found = []
    for text in overrides:
        try:
            found += parsed([text])
        except OverrideParseException:
            raise _unreadable(text) from None
        if not found[-1].key_or_group:
            raise _unreadable(text)
        key, _, value = text.lstrip("+~").partition("=")
        if key == "hydra.searchpath":
            raise ConfigError(f"{text}: further YAML files are taken from --config-dir DIR")
        if key in _PLACES:
            raise ConfigError(f"{text}: has no effect; run_dir=… says where a run is written")
        if key == "hydra.job.chdir" and value != "false":
            raise ConfigError(f"{text}: a run stays where it is started; run_dir=… says where it is written")
    for recipe, advice in (("arm", "several in turn by -m +arm={}"), ("study", "a study is a sweep already")):
        chosen = [text for text in overrides if text.startswith(f"+{recipe}=")]
        if len(chosen) > 1:
            names = ",".join(text.partition("=")[2] for text in chosen)
            raise ConfigError(f"{' '.join(chosen)}: one {recipe} at a time; {advice.format(names)}")
    return found


def _unreadable(text: str) -> ConfigError:
    """For an override outside Hydra's grammar: with the form that it takes."""
    key, equals, value = text.partition("=")
    if not (equals and value) or not re.fullmatch(r"\+*[\w./]+", key) or set(value) & set("\"'\\{}[]"):
        return ConfigError(f"{text}: cannot be read; write key=value, and quote what has special characters")
    quoted = shlex.quote(f'{key}="{value}"')
    return ConfigError(f"{text}: cannot be read; write {quoted}")


def _check_group(files: Files, override: Override) -> None:
    name, value, text = override.key_or_group, override.value(), str(override.input_line)
    if override.package is not None:
        raise ConfigError(f"{text}: expected {name}=…, without @{override.package}")
    if name in files.groups:
        choices = files.choices(name)
        if override.is_delete():
            raise ConfigError(f"{text}: a group needs a choice; {one_of('', choices)}")
        if isinstance(value, dict):
            return
        if value not in choices and not (value and files.file_of(f"{name}/{value}")):
            raise ConfigError(f"{name}={shown(value)}: {one_of(shown(value), choices)}")
        if override.is_add() and name not in RECIPES:
            raise ConfigError(f"{text}: {name} has a choice already; write {name}={value}")
    elif "/" in name or (override.is_add() and "." not in name):
        guess = _nearest_group(files, name)
        groups = ", ".join(files.groups)
        hint = f"did you mean {guess}={shown(value)}?" if guess else f"groups are {groups}"
        raise ConfigError(f"{text}: no such group; {hint}")


def _nearest_group(files: Files, name: str) -> str | None:
    guess = nearest(name, files.groups)
    return f"+{guess}" if guess in RECIPES else guess


def explain(files: Files, overrides: list[str], error: Exception) -> ConfigError:
    """The one line for an ``error`` that composing ``overrides`` raised."""
    found = parsed(overrides)
    choices = [str(o.input_line) for o in found if is_choice(o, files)]
    try:
        base = loaded(files, choices)
    except REFUSALS as refusal:
        return _explain_files(files, choices, refusal)
    for override in found:
        if is_choice(override, files):
            continue
        try:
            problem = _explain_value(files, base, override)
        except REFUSALS as refusal:
            problem = f"{override.input_line}: {str(refusal).splitlines()[0]}"
        if problem:
            return ConfigError(problem)
    return ConfigError(f"{' '.join(overrides)}: {error}")


# --- overrides of single settings ------------------------------------------------------------


def _explain_value(files: Files, base: DictConfig, override: Override) -> str | None:
    key, value, text = override.key_or_group, override.value(), str(override.input_line)
    if override.is_delete():
        return f"{text}: a setting cannot be removed; give {key} a value instead"
    parent, _, name = key.rpartition(".")
    around = OmegaConf.select(base, parent) if parent else base
    if around is not None and not OmegaConf.is_config(around):
        return f"{key}: no such setting; did you mean {parent}?"
    if isinstance(around, DictConfig) and name in around and override.is_add():
        return f"{text}: {key} exists already; write {key}={override.get_value_string()}"
    there = isinstance(around, DictConfig) and (name in around or OmegaConf.is_missing(around, name))
    unset = isinstance(around, DictConfig) and not there and name in settings_at(base, parent)
    if unset and not override.is_add():
        return f"{text}: its file does not set it; write +{key}={override.get_value_string()}"
    try:
        OmegaConf.update(base, key, value, merge=True, force_add=unset)
    except (ConfigKeyError, ConfigAttributeError) as error:
        full_key = key if key.startswith(f"{error.full_key}.") else str(error.full_key)
        guess = _nearest_group(files, key) if full_key == key and "." not in key else None
        if guess and not nearest(key, [one for one in known_at(base, "") if not files.choices(one)]):
            return f"{text}: no such group; did you mean {guess}={shown(value)}?"
        return f"{full_key}{unknown(base, full_key, files)}"
    except ValidationError as error:
        return f"{text}: {str(error).splitlines()[0]}"
    return None


# --- files -----------------------------------------------------------------------------------


def _explain_files(files: Files, choices: list[str], error: Exception) -> ConfigError:
    """For a mistake in a file that is chosen."""
    message = " ".join(str(error).split())
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return ConfigError(f"{shortened(mark.name)}, line {mark.line + 1}: {error.problem}")
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return ConfigError(_explain_choice(files, choices, error.missing_cfg_file))
    if override := re.search(r"Could not override '([^']+)'\. No match", message):
        return ConfigError(_explain_group(files, choices, override[1]))
    if inside := re.match(r"In '([^']+)': ", message):
        config, message = inside[1], message[inside.end() :]
        if not files.content_of(config):
            message = "expected settings, one 'key: value' per line"
        return ConfigError(f"{shortened(files.file_of(config) or config)}: {message}")
    return ConfigError(f"{' '.join(choices)}: {message}" if choices else message)


def _explain_choice(files: Files, choices: list[str], choice: str) -> str:
    """``choice`` is a config that some defaults list names and no directory holds."""
    file = _naming(files, choices, choice)
    group, _, name = choice.rpartition("/")
    extra = name.partition("_")[0]
    if group == "hydra/launcher" and extra in ("joblib", "submitit"):
        return f"{file}{group}={name}: needs pip install 'ptychofno[{extra}]'"
    if known := files.choices(group):
        return f"{file}{group}={name}: {one_of(name, known)}"
    return f"{file}{choice}: no such group{did_you_mean(group, files.groups)}"


def _explain_group(files: Files, choices: list[str], group: str) -> str:
    """``group`` is overridden, but nothing that is chosen has it."""
    file, parent = _naming(files, choices, group, overriding=True), group.rpartition("/")[0]
    if parent and group in files.groups:
        chosen = next((one for one in choices if one.startswith(f"{parent}=")), f"the chosen {parent}")
        return f"{file}{group}: {chosen} has no {group}"
    return f"{file}{group}: no such group{did_you_mean(group, files.groups)}"


def _naming(files: Files, choices: list[str], wanted: str, *, overriding: bool = False) -> str:
    """``FILE: `` for the chosen file whose defaults list names a config or group, or nothing."""
    for choice in [*reversed(choices), "config"]:
        for config in files.bases_of(choice.lstrip("+").replace("=", "/")):
            for name, overrides in files.defaults_of(config):
                if f"{name}/".startswith(f"{wanted}/") and (overrides or not overriding):
                    return f"{shortened(files.file_of(config))}: "
    return ""

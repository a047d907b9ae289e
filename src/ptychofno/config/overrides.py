"""Overrides as they are typed, read by Hydra's own parser; and what is wrong with them by themselves."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from functools import lru_cache
from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException

from ptychofno.config.errors import ConfigError, nearest, one_of, shown
from ptychofno.config.files import RECIPES, Files

_PLACES = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.output_subdir")


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
    at_home = re.sub(r"(?<=[=,])~(?=/|$)", lambda _: os.path.expanduser("~"), override)
    group, equals, choice = at_home.partition("=")
    recipe, *folders = group.lstrip("+").split("/")
    if not (equals and recipe in RECIPES):
        return at_home
    return f"+{recipe}={','.join('/'.join([*folders, one]) for one in choice.split(','))}"


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
        guess = nearest_group(files, name)
        groups = ", ".join(files.groups)
        hint = f"did you mean {guess}={shown(value)}?" if guess else f"groups are {groups}"
        raise ConfigError(f"{text}: no such group; {hint}")


def nearest_group(files: Files, name: str) -> str | None:
    guess = nearest(name, files.groups)
    return f"+{guess}" if guess in RECIPES else guess

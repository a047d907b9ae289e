"""Overrides as they are typed, read by Hydra's own parser."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from ptychofno.config.errors import ConfigError
from ptychofno.config.files import RECIPES, Files
from ptychofno.runs import place


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

"""Why Hydra refused to compose: its exceptions, told in one line with the nearest valid choice."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from ptychofno.config.errors import ConfigError, did_you_mean, one_of
from ptychofno.config.files import Files, shortened

REFUSALS = (HydraException, OmegaConfBaseException, YAMLError, ValueError, AssertionError)
"""What Hydra raises for a configuration that it cannot compose."""


def explain(files: Files, choices: Sequence[str], error: Exception) -> ConfigError:
    """The one line for an ``error`` that composing ``choices`` raised: a mistake in one of their files."""
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


def _explain_choice(files: Files, choices: Sequence[str], choice: str) -> str:
    """``choice`` is a config that some defaults list names and no directory holds."""
    file = _naming(files, choices, choice)
    group, _, name = choice.rpartition("/")
    extra = name.partition("_")[0]
    if group == "hydra/launcher" and extra in ("joblib", "submitit"):
        return f"{file}{group}={name}: needs pip install 'ptychofno[{extra}]'"
    if known := files.choices(group):
        return f"{file}{group}={name}: {one_of(name, known)}"
    return f"{file}{choice}: no such group{did_you_mean(group, files.groups)}"


def _explain_group(files: Files, choices: Sequence[str], group: str) -> str:
    """``group`` is overridden, but nothing that is chosen has it."""
    file, parent = _naming(files, choices, group, overriding=True), group.rpartition("/")[0]
    if parent and group in files.groups:
        chosen = next((one for one in choices if one.startswith(f"{parent}=")), f"the chosen {parent}")
        return f"{file}{group}: {chosen} has no {group}"
    return f"{file}{group}: no such group{did_you_mean(group, files.groups)}"


def _naming(files: Files, choices: Sequence[str], wanted: str, *, overriding: bool = False) -> str:
    """``FILE: `` for the chosen file whose defaults list names a config or group, or nothing."""
    for choice in [*reversed(choices), "config"]:
        for config in files.bases_of(choice.lstrip("+").replace("=", "/")):
            for name, overrides in files.defaults_of(config):
                if f"{name}/".startswith(f"{wanted}/") and (overrides or not overriding):
                    return f"{shortened(files.file_of(config))}: "
    return ""

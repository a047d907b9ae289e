"""What a name on the command line stands for: an arm, overrides, a run directory or a YAML file."""

from __future__ import annotations

import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ptychofno.config.errors import ConfigError, did_you_mean
from ptychofno.config.files import Files, refuse_hidden
from ptychofno.runs import artifacts


@dataclass(frozen=True)
class Composed:
    """What is to be composed of our YAML files; ``config_dir`` as for ``compose``."""

    overrides: list[str]
    config_dir: str | None = None


@dataclass(frozen=True)
class Recorded:
    """Settings in a file: data from whoever wrote it. ``run_dir`` is None for a file that is no run's."""

    file: Path
    run_dir: Path | None = None


def subject(name: str) -> Composed | Recorded:
    """What ``name`` stands for; nothing is composed or read yet. Raises ConfigError when that is nothing."""
    path, arms = Path(name), Files().choices("arm")
    if says_settings(name):
        try:
            return Composed(shlex.split(name))
        except ValueError as error:
            raise ConfigError(f"{name}: cannot be read: {error}") from None
    if name == "default":
        return Composed([])
    if name in arms:
        return Composed([f"+arm={name}"])
    if path.is_dir():
        if (path / artifacts.CONFIG).exists() and (reason := linked(path)):
            raise ConfigError(reason)
        return Recorded(path / artifacts.CONFIG, path)
    if path.is_file() and path.parent.name == "arm":
        config_dir = path.resolve().parents[1]
        refuse_hidden(config_dir, path.name)
        return Composed([f"+arm={path.stem}"], config_dir=str(config_dir))
    if path.is_file():
        return Recorded(path)
    raise ConfigError(f"{name}: no such arm, run directory or YAML file{did_you_mean(name, arms)}")


def says_settings(name: str) -> bool:
    """Whether ``name`` is ``key=value`` or several of these, not a path with an equals sign in it."""
    key, equals, _ = name.partition("=")
    of_a_group = "/" not in key or key.split("/")[0] in (*Files().groups, "hydra")
    return bool(equals) and not Path(name).exists() and of_a_group


def linked(run_dir: Path) -> str | None:
    """What in a run's directory could lead out of it; None when there are only plain files and folders."""
    for folder, folders, files in os.walk(run_dir):
        for name in (*folders, *files):
            kind = (path := Path(folder, name)).lstat().st_mode
            if not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
                return f"{path}: is a link or no plain file; a run keeps its own files"
    return None


class _Tree(yaml.SafeLoader):
    """Plain values without aliases, which can tie loops or blow up without end."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it uses aliases (*name), write their values out")
        return super().compose_node(parent, index)


def read(path: Path) -> dict[str, Any]:
    """The nested plain values of a YAML file, nothing of them resolved.

    Raises ConfigError for a file that holds none, is no plain file or too large.
    """
    try:
        values = yaml.load(artifacts.read_bytes(path, artifacts.LARGEST_SETTINGS).decode("utf-8"), _Tree)
    except FileNotFoundError:
        raise ConfigError(f"{path.parent}: not a run directory, it has no {path.name}") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not readable as settings: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected settings, one 'key: value' per line")
    return values

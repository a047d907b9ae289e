"""The YAML files behind a configuration: which groups they form, what they hold, and who sets what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from ptychofno.config.errors import ConfigError

RECIPES = ("arm", "study")
"""Groups whose files change settings of others and have none of their own."""

# Groups that only other files build on.
_INTERNAL = ("base", "hydra")

SHIPPED = Path(str(files("ptychofno.conf")))
_ABSENT = object()


@dataclass(frozen=True)
class Files:
    """The shipped ``conf/`` and, where it has no file of that name, a user's own ``config_dir``."""

    config_dir: str | None = None
    composed: dict[tuple[str, ...], bytes] = field(default_factory=dict, compare=False, repr=False)
    """What Hydra made of some choices, pickled for the other jobs of a sweep."""

    def __post_init__(self) -> None:
        if self.config_dir is not None and not os.path.isdir(self.config_dir):
            raise ConfigError(f"--config-dir {self.config_dir}: no such directory")

    @property
    def roots(self) -> list[Path]:
        return [SHIPPED, *([Path(self.config_dir)] if self.config_dir is not None else [])]

    @cached_property
    def groups(self) -> list[str]:
        """Every group with choices, such as ``model`` and ``model/block``."""
        found = {group for root in self.roots for group in _groups_below(root, "")}
        return sorted(found)

    def choices(self, group: str) -> list[str]:
        """The choices of a group; none when there is no such group."""
        return sorted({file.stem for root in self.roots for file in (root / group).glob("*.yaml")})

    def file_of(self, config: str) -> Path | None:
        """The file of a config such as ``arm/control`` or ``arm/mine/a``; None when there is none."""
        found = [file for root in self.roots if (file := root / f"{config}.yaml").is_file()]
        return found[0] if found else None

    def content_of(self, config: str) -> dict[str, Any]:
        """The plain, unresolved content of a config's file; nothing where it is not readable."""
        file = self.file_of(config)
        try:
            content = yaml.safe_load(file.read_bytes()) if file is not None else None
        except (OSError, ValueError, yaml.YAMLError):
            content = None
        return content if isinstance(content, dict) else {}

    def defaults_of(self, config: str) -> list[tuple[str, bool]]:
        """What the defaults list of a config names, such as ``model/hybrid``, and whether it overrides."""
        own, found = os.path.dirname(config), []
        for entry in self.content_of(config).get("defaults") or []:
            pairs = entry.items() if isinstance(entry, dict) else [("", entry)] if entry != "_self_" else []
            for group, choice in pairs:
                name = group.removeprefix("override ").split("@")[0]
                name = f"{name}/{choice}" if name else str(choice).split("@")[0]
                path = name.lstrip("/") if name.startswith("/") or not own else f"{own}/{name}"
                found.append((path, group.startswith("override ")))
        return found

    def bases_of(self, config: str) -> Iterator[str]:
        """``config`` and the files that its defaults list builds on, nearest first."""
        waiting, seen = [config], set[str]()
        while waiting:
            config = waiting.pop(0)
            if config not in seen and self.file_of(config) is not None:
                seen.add(config)
                yield config
                waiting += [name for name, overrides in reversed(self.defaults_of(config)) if not overrides]

    def targets(self, key: str) -> set[str]:
        """Every ``_target_`` that a file names for the part ``key``, such as ``model.block``."""
        places = [(key.replace(".", "/"), []), *_groups_above(key)]
        named = (
            _found_at(self.content_of(f"{group}/{choice}"), [*names, "_target_"])
            for group, names in places
            for choice in self.choices(group)
        )
        return {str(target) for target in named if target is not _ABSENT}

    def owners_of(self, key: str) -> tuple[str, list[str]]:
        """The group of which some choices set ``key``, and these choices: ``data`` for ``data.path``."""
        for group, names in _groups_above(key):
            if found := [one for one in self.choices(group) if self._brings(f"{group}/{one}", names)]:
                return group, found
        return "", []

    def _brings(self, config: str, names: list[str]) -> bool:
        """Whether a config has a value under these names, or a group of that name in its defaults list."""
        content = self.content_of(config)
        listed = len(names) == 1 and any(names[0] in one for one in content.get("defaults") or [])
        return listed or _found_at(content, names) is not _ABSENT

    def setter_of(self, key: str, chosen: dict[str, str]) -> str | None:
        """The file whose value of ``key`` counts, as a user would name it; None when no file sets it."""
        names = key.split(".")
        for group, own in (("study", names), ("arm", names), *_groups_above(key)):
            for config in self.bases_of(f"{group}/{chosen[group]}" if group in chosen else ""):
                if _found_at(self.content_of(config), own) is not _ABSENT:
                    return shortened(self.file_of(config))
        there = _found_at(self.content_of("config"), names) is not _ABSENT
        return shortened(SHIPPED / "config.yaml") if there else None


def refuse_hidden(config_dir: Path, arm: str | None = None) -> None:
    """Raise ConfigError for a file below ``config_dir`` that one of ours of the same name hides.

    Of all that ours has, or of ``arm`` alone, the name of a file. A copy of ours is none.
    """
    for file in sorted(SHIPPED.rglob("*.yaml") if arm is None else (SHIPPED / "arm").glob(arm)):
        name = file.relative_to(SHIPPED)
        theirs = config_dir / name
        try:
            hidden = theirs.is_file() and theirs.read_bytes() != file.read_bytes()
        except OSError as error:
            raise ConfigError(f"{theirs}: cannot be read: {error.strerror}") from None
        if hidden:
            raise ConfigError(
                f"{theirs}: would never be read, conf/{name} has the same name; give it another one"
            )


def shortened(path: Path | str | None) -> str:
    """A path as a user would name it: below ``conf/`` if shipped, else from the working directory."""
    shipped = os.path.relpath(str(path), SHIPPED)
    if not shipped.startswith(".."):
        return f"conf/{shipped}"
    relative = os.path.relpath(str(path))
    return str(path) if relative.startswith("..") else relative


def _found_at(content: Any, names: list[str]) -> Any:
    """What nested ``content`` has under these names, or ``_ABSENT``."""
    for name in names:
        if not isinstance(content, dict) or name not in content:
            return _ABSENT
        content = content[name]
    return content


def _groups_above(key: str) -> Iterator[tuple[str, list[str]]]:
    """The groups that may set ``key``, the nearest first, and its names within."""
    names = key.split(".")
    for depth in range(len(names) - 1, 0, -1):
        yield "/".join(names[:depth]), names[depth:]


def _groups_below(root: Path, parent: str) -> Iterator[str]:
    if parent.count("/") > 8:
        raise ConfigError(f"--config-dir: {parent}: too deep; does a link lead back?")
    for folder in sorted(path for path in (root / parent).iterdir() if path.is_dir()):
        group = f"{parent}/{folder.name}" if parent else folder.name
        if group not in _INTERNAL and not folder.name.startswith((".", "_")):
            if any(folder.glob("*.yaml")):
                yield group
            yield from _groups_below(root, group)

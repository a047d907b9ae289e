"""The YAML files behind a configuration: where they are, which groups they form, who set what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ptychofno.config.errors import ConfigError
from ptychofno.config.run_dir import with_home
from ptychofno.config.schema import Config
from ptychofno.config.store import register

if TYPE_CHECKING:
    from hydra.plugins.config_source import ConfigResult, ConfigSource

CONFIG_PATH = "pkg://ptychofno.conf"
CONFIG_NAME = "config"

# Groups that only other files build on.
_INTERNAL = ("base", "schema", "hydra")

_PARTS = {field.name for field in fields(Config)}


class _Emptied(ConfigRepository):
    """A repository in which one config sets nothing."""

    def __init__(self, search_path: ConfigSearchPath, config: str) -> None:
        super().__init__(search_path)
        self.emptied = config

    def load_config(self, config_path: str) -> ConfigResult | None:
        loaded = super().load_config(config_path)
        if loaded is not None and config_path == self.emptied:
            loaded.config = OmegaConf.create()
        return loaded


@dataclass(frozen=True)
class Sources:
    """The shipped ``conf/`` and, where it has no file of that name, a user's own directory.

    Built on Hydra's loader itself rather than on ``hydra.initialize``, which keeps one loader per
    process and so could not be used while a job runs.
    """

    loader: ConfigLoaderImpl
    config_name: str = CONFIG_NAME
    _composed: dict[tuple[str, ...], DictConfig] = field(default_factory=dict, init=False)

    @classmethod
    def open(
        cls, config_dir: str | None = None, config_path: str | None = None, config_name: str | None = None
    ) -> Sources:
        """Raises ConfigError when ``config_dir`` is no directory."""
        register()
        search_path = create_config_search_path(config_path or CONFIG_PATH)
        if config_dir is not None:
            if not os.path.isdir(config_dir):
                raise ConfigError(f"--config-dir {config_dir}: no such directory")
            search_path.prepend(
                provider="command-line",
                path=f"file://{os.path.abspath(config_dir)}",
                anchor=SearchPathQuery(provider="schema"),
            )
        return cls(ConfigLoaderImpl(search_path), config_name or CONFIG_NAME)

    def without(self, config: str) -> Sources:
        """The same files, but of ``config`` only its defaults list counts."""
        loader = ConfigLoaderImpl(self.loader.config_search_path)
        loader.repository = _Emptied(self.loader.config_search_path, config)
        return replace(self, loader=loader)

    def load(self, overrides: list[str]) -> DictConfig:
        """The composed configuration with Hydra's own node; raises whatever Hydra raises.

        Of the same files composed once: the jobs of a sweep differ by their values.
        """
        parsed = self.parse(overrides)
        chosen = tuple(str(o.input_line) for o in parsed if self.is_choice(o))
        if chosen not in self._composed:
            self._composed[chosen] = self.loader.load_configuration(
                self.config_name, list(chosen), RunMode.RUN, from_shell=False
            )
        cfg = deepcopy(self._composed[chosen])
        self.loader._apply_overrides_to_config([o for o in parsed if not self.is_choice(o)], cfg)
        own = [o for o in parsed if not o.is_hydra_override()]
        cfg.hydra.overrides.task = [o.input_line for o in own]
        naming = cfg.hydra.job.config.override_dirname
        cfg.hydra.job.override_dirname = get_overrides_dirname(
            own, naming.exclude_keys, naming.item_sep, naming.kv_sep
        )
        return cfg

    def parse(self, overrides: list[str]) -> list[Override]:
        """Raises hydra's OverrideParseException."""
        return OverridesParser.create(config_loader=self.loader).parse_overrides(overrides)

    def groups(self) -> list[str]:
        """Every group with choices, such as ``model`` and ``model/block``."""
        return list(self._groups)

    @cached_property
    def _groups(self) -> tuple[str, ...]:
        return tuple(self._groups_below(""))

    def _groups_below(self, parent: str) -> Iterator[str]:
        if parent.count("/") > 8:
            raise ConfigError(f"--config-dir: {parent}: too deep; does a link lead back?")
        for name in self.loader.repository.get_group_options(parent, ObjectType.GROUP):
            group = f"{parent}/{name}" if parent else name
            if group not in _INTERNAL:
                if self.choices(group):
                    yield group
                yield from self._groups_below(group)

    def is_choice(self, override: Override) -> bool:
        """Whether an override chooses a file of a group rather than setting a value."""
        if override.is_hydra_override():
            return True
        return override.key_or_group in self._groups and not isinstance(override.value(), dict)

    def normalised(self, override: str) -> str:
        """As Hydra wants it: ``arm=mine/a`` and ``arm/mine=a`` mean ``+arm=mine/a``, ``~`` is home."""
        group, equals, choice = with_home(override).partition("=")
        recipe, *folders = group.lstrip("+").split("/")
        if not (equals and self.is_recipe(recipe)):
            return f"{group}{equals}{choice}"
        return f"+{recipe}={','.join('/'.join([*folders, one]) for one in choice.split(','))}"

    def is_recipe(self, group: str) -> bool:
        """Whether a group, such as ``arm``, changes settings of others and has none of its own."""
        return group in self._groups and group.split("/")[0] not in _PARTS

    def choices(self, group: str) -> list[str]:
        """The choices of a group; none when there is no such group."""
        return self.loader.repository.get_group_options(group, ObjectType.CONFIG)

    def has(self, config: str) -> bool:
        """Whether there is a file of a config such as ``arm/mine/a``."""
        return self._source_of(config) is not None

    def file_of(self, config: str) -> str:
        """The file of a config such as ``arm/control``, as a user would name it."""
        source = self._source_of(config)
        if source is None:
            return config
        shipped = source.full_path() == CONFIG_PATH
        return f"conf/{config}.yaml" if shipped else shortened(f"{source.path}/{config}.yaml")

    def content_of(self, config: str) -> Any:
        """The plain, unresolved content of a config's file without its defaults list."""
        loaded = self.loader.repository.load_config(config)
        return OmegaConf.to_container(loaded.config, resolve=False) if loaded is not None else None

    def setter_of(self, key: str, overrides: list[str]) -> str | None:
        """The file whose value of ``key`` counts, or None when no file sets it."""
        defaults = self.loader.compute_defaults_list(self.config_name, overrides, RunMode.RUN).defaults
        for default in reversed(defaults):
            assert default.config_path is not None
            if default.config_path.startswith(("schema/", "hydra/")):
                continue
            package = f"{default.package}." if default.package else ""
            content = self.content_of(default.config_path)
            if f"{key}.".startswith(package) and _holds(content, key[len(package) :]):
                return self.file_of(default.config_path)
        return None

    def chooser_of(self, choice: str, overrides: list[str]) -> str | None:
        """The file whose defaults list names ``choice``, such as ``optimizer/adamm``; None if none does."""
        chosen = [f"{o.key_or_group}/{o.value()}" for o in self.parse(overrides) if not o.is_delete()]
        waiting, seen = [*reversed(chosen), self.config_name], set()
        while waiting:
            config = waiting.pop(0)
            if config in seen or self._source_of(config) is None:
                continue
            seen.add(config)
            loaded = self.loader.repository.load_config(config)
            for default in (loaded.defaults_list or []) if loaded is not None else []:
                default.update_parent(os.path.dirname(config), "")
                if default.is_self():
                    continue
                if default.get_config_path() == choice:
                    return self.file_of(config)
                waiting.append(default.get_config_path())
        return None

    def _source_of(self, config: str) -> ConfigSource | None:
        for source in self.loader.get_sources():
            if source.is_config(config):
                return source
        return None


def shortened(path: str) -> str:
    """A path as a user would name it: below ``conf/`` if shipped, else from the working directory."""
    shipped = os.path.relpath(path, str(files("ptychofno.conf")))
    if not shipped.startswith(".."):
        return f"conf/{shipped}"
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _holds(content: Any, key: str) -> bool:
    for part in key.split(".") if key else []:
        if not isinstance(content, dict) or part not in content:
            return False
        content = content[part]
    return True

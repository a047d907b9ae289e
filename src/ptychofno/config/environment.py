"""Values of environment variables may be secret: they are used, and told by their unresolved text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ptychofno.config.errors import shown


class Unresolved:
    """A configuration in which every text that names the environment stands for itself."""

    def __init__(self, cfg: DictConfig) -> None:
        self._hidden: dict[str, str] = {}
        self._cfg = OmegaConf.create(_map_text(OmegaConf.to_container(cfg, resolve=False), self._hide))

    def values(self) -> Any:
        """All values as plain ones, resolved as far as the environment is not needed."""
        return self._values(self._cfg)

    def text_of(self, key: str) -> str | None:
        """What to show of a setting whose value comes from the environment; None for any other."""
        try:
            text = shown(OmegaConf.select(self._cfg, key))
        except OmegaConfBaseException:
            return None
        restored = self._restore(text)
        return restored if restored != text else None

    def failure_of(self, key: str) -> str | None:
        """Why a setting cannot be resolved, environment aside; None when it can."""
        try:
            OmegaConf.select(self._cfg, key)
        except OmegaConfBaseException as error:
            return self._restore(str(error).splitlines()[0])
        return None

    def _hide(self, text: str) -> str:
        if "oc.env" not in text:
            return text
        token = f"<environment {len(self._hidden)}>"
        self._hidden[token] = text
        return token

    def _restore(self, text: str) -> str:
        for token, original in self._hidden.items():
            text = text.replace(token, original)
        return text

    def _values(self, node: DictConfig | ListConfig) -> Any:
        if isinstance(node, DictConfig):
            return {name: self._value(node, name) for name in node}
        return [self._value(node, i) for i in range(len(node))]

    def _value(self, parent: Any, name: Any) -> Any:
        try:
            value = parent[name]
        except OmegaConfBaseException:
            raw: Any = OmegaConf.to_container(parent, resolve=False)
            value = raw[name]
        if isinstance(value, (DictConfig, ListConfig)):
            return self._values(value)
        return self._restore(value) if isinstance(value, str) else value


def without_environment(cfg: DictConfig, text: str) -> str:
    """``text`` about a valid ``cfg``, in which no value from the environment is told."""
    pairs = _differences(OmegaConf.to_container(cfg, resolve=True), Unresolved(cfg).values(), "")
    for key, value, unresolved in sorted(pairs, key=lambda pair: -len(str(pair[1]))):
        if not isinstance(value, str):
            text = text.replace(f"{key}={shown(value)}", f"{key}={unresolved}")
            continue
        for spelling in (value, str(Path(value)), str(Path(value).expanduser())):
            whole = rf"(?<!\w){re.escape(spelling)}(?!\w)"
            text = re.sub(whole, lambda _, new=unresolved: new, text)  # type: ignore[misc]
    return text


def _differences(values: Any, unresolved: Any, key: str) -> Iterator[tuple[str, Any, str]]:
    """Key, value and unresolved text of everything that comes from the environment."""
    if isinstance(values, dict) and isinstance(unresolved, dict):
        for name, value in values.items():
            yield from _differences(value, unresolved[name], f"{key}.{name}" if key else str(name))
    elif isinstance(values, list) and isinstance(unresolved, list):
        for i, value in enumerate(values):
            yield from _differences(value, unresolved[i], f"{key}[{i}]")
    elif isinstance(unresolved, str) and unresolved != values and values != "":
        yield key, values, unresolved


def _map_text(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {key: _map_text(entry, change) for key, entry in value.items()}
    if isinstance(value, list):
        return [_map_text(entry, change) for entry in value]
    return change(value) if isinstance(value, str) else value

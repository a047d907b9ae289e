"""What differs between configurations, key by key. Plain nested values in, plain values out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ptychofno.runs.place import NOT_OF_THE_RESULT


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys: ``{"optimizer": {"lr": 1}}`` is ``{"optimizer.lr": 1}``."""
    if not isinstance(values, Mapping) or not values:
        return {prefix: values} if prefix else {}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def of_the_result(key: str) -> bool:
    """Whether a dotted key says what is computed, and not only where and how."""
    return key not in NOT_OF_THE_RESULT and not key.startswith("logger.")


def differing(configs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The keys of flat ``configs`` that some lack or that have more than one value, sorted."""
    first, *others = configs.values()
    return [
        key
        for key in sorted({key for config in configs.values() for key in config})
        if any(key not in config for config in configs.values())
        or any(not _same(config[key], first[key]) for config in others)
    ]


def _same(one: Any, other: Any) -> bool:
    """Equal, where ``true`` is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)

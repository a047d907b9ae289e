"""What differs between configurations, key by key. Plain nested values in, plain values out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ptychofno import artifacts
from ptychofno.config.errors import shown
from ptychofno.config.run_dir import NOT_OF_THE_RESULT

LATER = {
    "guard._target_": "ptychofno.training.NoGuard",
    "averaging._target_": "ptychofno.training.NoAveraging",
    "model.output._target_": "ptychofno.models.PatchOutput",
    "model.output._partial_": True,
    "model.neighbours": "channels",
}
"""Settings that earlier runs do not have, and what goes without saying there."""


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
    return key not in NOT_OF_THE_RESULT


def differing(configs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The keys of flat ``configs`` that some lack or that have more than one value, sorted."""
    first, *others = configs.values()
    return [
        key
        for key in sorted({key for config in configs.values() for key in config})
        if any(key not in config for config in configs.values())
        or any(not _same(config[key], first[key]) for config in others)
    ]


def conflict(run_dir: Path, config: str) -> str | None:
    """Why the run in ``run_dir`` is not one of ``config`` (YAML); None when it is."""
    file = run_dir / artifacts.CONFIG
    try:
        recorded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return damaged(file)
    if not isinstance(recorded, dict):
        return damaged(file)
    present = flat(yaml.safe_load(config))
    earlier = {key: value for key, value in LATER.items() if key in present} | flat(recorded)
    keys = [key for key in differing({"earlier": earlier, "present": present}) if of_the_result(key)]
    if not keys:
        return None
    said = ", ".join(f"{key}={shown(earlier[key]) if key in earlier else 'absent'}" for key in keys[:5])
    return (
        f"run_dir={run_dir}: holds a run with {said}{', …' if len(keys) > 5 else ''}; "
        "choose another run_dir, or resume=never to set it aside"
    )


def damaged(file: Path) -> str:
    """What to say of an earlier run whose ``file`` cannot be read: which one, and the way out."""
    return f"{file}: cannot be read; resume=never sets this run aside and starts over"


def _same(one: Any, other: Any) -> bool:
    """Equal, where ``true`` is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)

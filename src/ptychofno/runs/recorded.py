"""The settings that a run left behind, taken up again: as data, which nothing is built or resolved from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from ptychofno.config.composition import current, of_files, set_values, settle, without_hydra
from ptychofno.config.errors import ConfigError, shown
from ptychofno.config.files import Files
from ptychofno.config.overrides import check_typed, is_choice, normalised, parsed
from ptychofno.runs.comparison import flat

# What says how a network is made, what it sees, how a step is taken and how it is judged; the rest has
# today's values.
_PARTS = ("model", "optimizer", "clip", "loss", "data", "probe", "refine")
_SETTINGS = ("seed", "infer_batch_size", "evaluation")
# Where datasets are cached is for whoever writes there to say.
_LEFT = {"data.cache_dir"}


def recomposed(
    values: Mapping[str, Any],
    overrides: Sequence[str],
    file: Path | str,
    *,
    config_dir: str | None = None,
    parts: Sequence[str] = _PARTS,
) -> DictConfig:
    """A checked configuration from what a run recorded, changed by ``overrides``. Raises ConfigError.

    Each recorded part of ``parts`` replaces today's. Its classes have to be named by a file of ours or of
    ``config_dir``, and nothing in it is resolved. ``data=…`` replaces the recorded data together with the
    probe. ``values`` are as from ``naming.read``, and ``file`` is where they come from.
    """
    files = Files(config_dir)
    overrides = [normalised(override) for override in overrides]
    check_typed(files, overrides)
    typed = parsed(overrides)
    choices = [one for one in typed if is_choice(one, files)]
    replaced = {one.key_or_group.replace("/", ".") for one in choices}
    replaced |= {"probe"} if "data" in replaced else set()
    cfg = of_files(files, [str(one.input_line) for one in choices])
    for part in parts:
        if part not in replaced:
            node = _plain(values.get(part), part, file)
            _check_targets(node, part, files, file)
            _take(cfg, part, node, replaced)
    for key in _SETTINGS:
        if key in values:
            _take(cfg, key, _known(_plain(values[key], key, file, mapping=False), cfg[key]), replaced)
    set_values(cfg, files, [one for one in typed if one not in choices])
    with current(cfg):
        settle(cfg, files, overrides, str(file))
    return without_hydra(cfg)


def _plain(node: Any, key: str, file: Path | str, *, mapping: bool = True) -> Any:
    if mapping and not isinstance(node, Mapping):
        raise ConfigError(f"{file}: {key}: expected settings, as a run records them")
    for name, value in flat(node, key).items():
        if "${" in str(value):
            raise ConfigError(f"{file}: {name}={shown(value)}: is not resolved; type {name}=…")
    return node


def _known(node: Any, today: Any) -> Any:
    """A recorded setting, or settings without those that there are no more."""
    return {name: node[name] for name in node if name in today} if isinstance(node, Mapping) else node


def _take(cfg: DictConfig, key: str, node: Any, replaced: Set[str]) -> None:
    """Put a recorded part in the place of today's, but for what is typed or not taken from a record."""
    kept = {name: OmegaConf.select(cfg, name) for name in (*replaced, *_LEFT) if name.startswith(f"{key}.")}
    with open_dict(cfg):
        cfg[key] = node
        for name, value in kept.items():
            OmegaConf.update(cfg, name, value, merge=False, force_add=True)


def _check_targets(node: Mapping[str, Any], key: str, files: Files, file: Path | str) -> None:
    """Raise ConfigError for a class in a record that neither our files nor the user's name."""
    known = files.targets(key)
    target = node.get("_target_")
    if target not in known:
        said = f" ({shown(target)})" if target is not None else ""
        raise ConfigError(
            f"{file}: {key}{said}: not one of ours: {', '.join(sorted(known))}; a class of your own is taken"
            " with --config-dir DIR, where a file names it"
        )
    for name, value in node.items():
        if isinstance(value, Mapping):
            if "_target_" not in value:
                raise ConfigError(f"{file}: {key}.{name}: expected a part with its _target_")
            _check_targets(value, f"{key}.{name}", files, file)
        elif isinstance(value, list) and any(isinstance(entry, (Mapping, list)) for entry in value):
            raise ConfigError(f"{file}: {key}.{name}={shown(value)}: expected plain values")

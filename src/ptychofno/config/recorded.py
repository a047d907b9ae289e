"""The settings that a run left behind, taken up again: as data, which nothing is built or resolved from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from ptychofno.config.comparison import LATER, flat
from ptychofno.config.composition import current
from ptychofno.config.diagnosis import REFUSALS, check_typed, explain, explain_type
from ptychofno.config.errors import ConfigError, shown
from ptychofno.config.run_dir import settle
from ptychofno.config.sources import Sources
from ptychofno.config.store import SCHEMAS
from ptychofno.config.validation import group_of, unknown, validate

# What says how a network is made, what it sees, how a step is taken and how it is judged; the rest has
# today's values.
_PARTS = ("model", "optimizer", "clip", "loss", "data", "probe", "refine")
_SETTINGS = ("seed", "infer_batch_size", "evaluation")
# Where datasets are cached is for whoever writes there to say.
_LEFT = {"data.cache_dir"}


def recomposed(values: Mapping[str, Any], overrides: Sequence[str], file: Path | str) -> DictConfig:
    """A checked configuration from what a run recorded, changed by ``overrides``.

    Each recorded part (model, optimizer, clip, loss, data, probe) is matched with a choice of ours, and
    its plain values are set in that choice's schema: no class is taken from the record, and nothing in it
    is resolved. What another version did not record yet has today's value. Seed and evaluation are taken,
    too.
    ``data=…`` replaces the recorded data together with the probe; ``data.cache_dir`` is never the
    recorded one.

    Args:
        values: as from ``naming.read``. overrides: as for ``compose``. file: where the values come from.

    Raises ConfigError with one line for whatever is not valid.
    """
    sources = Sources.open()
    overrides = [sources.normalised(override) for override in overrides]
    check_typed(sources, overrides)
    typed = [(o.key_or_group.replace("/", "."), sources.is_choice(o)) for o in sources.parse(overrides)]
    replaced = {key for key, _ in typed} | ({"probe"} if ("data", True) in typed else set())
    parts = [part for part in _parts(values, file) if not _below(part.key, replaced)]
    overrides = [*(f"{part.key.replace('.', '/')}={part.choice}" for part in parts), *overrides]
    try:
        cfg = sources.load(overrides)
    except REFUSALS as error:
        raise explain(sources, overrides, error) from error
    own = flat({key: values[key] for key in _SETTINGS if key in values}).items()
    for key, value in [*own, *(setting for part in parts for setting in part.settings)]:
        if not _below(key, replaced | _LEFT):
            _set(cfg, key, value, file)
    with current(cfg):
        validate(cfg, lambda key: None if _below(key, replaced) else str(file))
        settle(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


class _Part(NamedTuple):
    """A recorded node, such as ``model.block``: which choice of ours it is, and its values by dotted key."""

    key: str
    choice: str
    settings: list[tuple[str, Any]]


def _parts(values: Mapping[str, Any], file: Path | str) -> Iterator[_Part]:
    for key in _PARTS:
        if key == "refine" and key not in values:  # from before there was such a group
            continue
        yield from _part(key, values.get(key), file)


def _part(key: str, node: Any, file: Path | str) -> Iterator[_Part]:
    """The part ``key`` and those below it that are groups of their own."""
    if not isinstance(node, Mapping):
        raise ConfigError(f"{file}: {key}: expected settings, as a run records them")
    choice, kind = _choice_of(key, node, file)
    fixed = [field.name for field in fields(kind) if field.metadata.get("constant")]
    below = [field.name for field in fields(kind) if group_of(f"{key}.{field.name}") in SCHEMAS]
    settings = {name: value for name, value in node.items() if name not in fixed and name not in below}
    yield _Part(key, choice, list(flat(settings, key).items()) if settings else [])
    for name in below:
        if name in node or f"{key}.{name}._target_" not in LATER:  # else from before there was such a group
            yield from _part(f"{key}.{name}", node.get(name), file)


def _choice_of(key: str, node: Mapping[str, Any], file: Path | str) -> tuple[str, type]:
    """Name and schema of the choice whose fixed values, the more the better, stand in ``node``."""
    found: list[tuple[int, str, type]] = []
    choices = SCHEMAS[group_of(key)]
    for choice, kind in choices.items():
        fixed = [field for field in fields(kind) if field.metadata.get("constant")]
        if all(field.name in node and node[field.name] == field.default for field in fixed):
            found.append((len(fixed), choice, kind))
    if not found:
        target = f" ({shown(node['_target_'])})" if "_target_" in node else ""
        raise ConfigError(f"{file}: {key}{target}: not one of ours: {', '.join(choices)}")
    _, choice, kind = max(found, key=lambda match: match[0])
    return choice, kind


def _set(cfg: DictConfig, key: str, value: Any, file: Path | str) -> None:
    if "${" in str(value):
        raise ConfigError(f"{file}: {key}={shown(value)}: is not resolved; type {key}=…")
    try:
        OmegaConf.update(cfg, key, value)
    except (ConfigKeyError, ConfigAttributeError):
        raise ConfigError(f"{file}: {key}{unknown(cfg, key)}") from None
    except ValidationError as error:
        raise ConfigError(f"{file}: {explain_type(cfg, key, value, error)}") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{file}: {key}: {str(error).splitlines()[0]}") from None


def _below(key: str, keys: Set[str]) -> bool:
    """Whether ``key`` or what it is part of is among ``keys``."""
    return any(f"{key}.".startswith(f"{other}.") for other in keys)

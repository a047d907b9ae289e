"""A composed configuration against the schema: unknown, missing and out-of-range settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import Field, fields, is_dataclass
from functools import cache
from typing import Any, NamedTuple, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ptychofno.config.environment import Unresolved
from ptychofno.config.errors import ConfigError, nearest, shown
from ptychofno.config.limits import expectation, violation
from ptychofno.config.store import SCHEMAS


class Setting(NamedTuple):
    """The declaration of one setting."""

    field: Field[Any]
    hint: Any


def declared(node: Any) -> dict[str, Setting] | None:
    """The settings that the schema declares for a node; None for a node without a schema."""
    kind = OmegaConf.get_type(node) if isinstance(node, DictConfig) else None
    return _settings_of(kind) if kind is not None and is_dataclass(kind) else None


@cache
def _settings_of(kind: type) -> dict[str, Setting]:
    hints = get_type_hints(kind)
    return {field.name: Setting(field, hints[field.name]) for field in fields(kind)}


def validate(cfg: DictConfig, file_of: Callable[[str], str | None]) -> None:
    """Raise ConfigError for the first setting that the schema refuses.

    ``file_of(key)`` names the file that a setting comes from, None for the command line.
    """
    for key, problem in _problems(cfg, ""):
        file = file_of(key.split("[")[0])
        raise ConfigError(f"{file}: {key}{problem}" if file else f"{key}{problem}")
    if cfg.probe.name in ("dataset", "refined") and cfg.data.kind != "measured":
        others = ", ".join(name for name in SCHEMAS["probe"] if name not in ("dataset", "refined"))
        raise ConfigError(
            f"probe={cfg.probe.name}: only data=measured brings a probe; expected one of {others}"
        )
    if cfg.trainer.get("strategy") == "ddp" and cfg.trainer.devices is not None:
        check_divisible(cfg.data.batch_size, cfg.trainer.devices)
    if cfg.trainer.keep_every is not None and not cfg.enable_checkpointing:
        raise ConfigError(f"trainer.keep_every={cfg.trainer.keep_every}: needs enable_checkpointing=true")


def check_counts(cfg: DictConfig) -> None:
    """Raise ConfigError for training with a likelihood of counts on data that do not tell them."""
    amplitudes = cfg.data.kind == "measured" and cfg.data.layout.quantity == "amplitude"
    if amplitudes and str(cfg.loss.get("_target_")).endswith(".PoissonLoss"):
        raise ConfigError(
            "loss=poisson: needs counts, which data.layout.quantity=amplitude does not tell; expected"
            " loss=mae, or a file of counts"
        )


def check_divisible(batch_size: int, processes: int) -> None:
    """Raise ConfigError when a batch cannot be shared out evenly."""
    if batch_size % processes:
        below = batch_size - batch_size % processes
        near = " or ".join(str(size) for size in (below, below + processes) if size)
        raise ConfigError(
            f"data.batch_size={batch_size}: the batch of all {processes} processes together, "
            f"expected a multiple of {processes}; the nearest is {near}"
        )


def group_of(key: str) -> str:
    """The group that fills ``key``, such as ``model/block``."""
    return key.replace(".", "/")


def unknown(cfg: DictConfig, key: str) -> str:
    """What to say of a setting ``key`` that ``cfg`` does not have."""
    parent = key.rpartition(".")[0]
    for owner, choices in SCHEMAS.items():
        prefix = f"{owner.replace('/', '.')}."
        rest = key.removeprefix(prefix).split(".")
        elsewhere = [choice for choice, kind in choices.items() if _has(kind, rest)]
        if key.startswith(prefix) and elsewhere:
            return f": no such setting of the chosen {owner}; it belongs to {owner}={', '.join(elsewhere)}"
    guess = _nearest_setting(cfg, key)
    if guess:
        return f": no such setting; did you mean {guess}?"
    siblings = declared(OmegaConf.select(cfg, parent) if parent else cfg) or {}
    names = [name for name in siblings if not name.startswith("_")]
    return f": no such setting; {f'{parent} has' if parent else 'there are'} {', '.join(names) or 'none'}"


def _has(kind: Any, names: list[str]) -> bool:
    """Whether a user can set ``names``, such as layout and quantity, of a schema."""
    settings = _settings_of(kind) if is_dataclass(kind) and isinstance(kind, type) else {}
    if names[0] not in settings or settings[names[0]].field.metadata.get("constant"):
        return False
    return len(names) == 1 or _has(settings[names[0]].hint, names[1:])


def _nearest_setting(cfg: DictConfig, key: str) -> str | None:
    parent, _, name = key.rpartition(".")
    known = [k for k in _keys(cfg, "") if not f"{key}.".startswith(f"{k}.")]
    siblings = [k for k in known if k.rpartition(".")[0] == parent]
    if guess := nearest(name, [k.rpartition(".")[2] for k in siblings]):
        return f"{parent}.{guess}" if parent else guess
    same_name = [k for k in known if k.rpartition(".")[2] == name]
    if same_name:
        return same_name[0]
    return None if siblings else nearest(key, known)


def _keys(node: DictConfig, prefix: str) -> Iterator[str]:
    for name in map(str, declared(node) or node):
        key = f"{prefix}{name}"
        if name.startswith("_"):
            continue
        yield key
        child = None if OmegaConf.is_missing(node, name) else node._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none():
            yield from _keys(child, f"{key}.")


def _problems(node: DictConfig, prefix: str) -> Iterator[tuple[str, str]]:
    """Key and complaint of everything wrong below ``node``, in the order of the schema."""
    settings = declared(node)
    if settings is None:
        yield from _schemaless_problems(node, prefix.rstrip("."))
        return
    for name in map(str, node):
        if name not in settings and f"{prefix}{name}" != "hydra":
            yield f"{prefix}{name}", unknown(_root(node), f"{prefix}{name}")
    for name, (field, hint) in settings.items():
        key = f"{prefix}{name}"
        if name not in node or OmegaConf.is_missing(node, name):
            yield key, f": needs a value: {field.metadata['help']}"
            continue
        try:
            value = list(node[name]) if OmegaConf.is_list(node[name]) else node[name]
        except OmegaConfBaseException as error:
            yield _unresolvable(node, key, hint, field, error)
            continue
        if isinstance(value, DictConfig):
            yield from _problems(value, f"{key}.")
        elif group_of(key) in SCHEMAS:
            yield key, f"={shown(value)}: expected settings; a choice is written {group_of(key)}=CHOICE"
        elif field.metadata.get("constant"):
            if value != field.default:
                yield key, f"={_told(node, key, value)}: fixed to {shown(field.default)} by the chosen file"
        elif found := violation(value, hint, field.metadata):
            key += found.where
            yield key, f"={_told(node, key, found.value)}: {found.expected}"


def _unresolvable(
    node: DictConfig, key: str, hint: Any, field: Field[Any], error: OmegaConfBaseException
) -> tuple[str, str]:
    """Key and complaint of a setting whose interpolation gives no value, or none of its type."""
    name = key.rpartition(".")[2]
    raw = OmegaConf.to_container(node, resolve=False)
    assert isinstance(raw, dict)
    # The error of a value may quote it; the absence of a variable is no secret.
    reason = Unresolved(_root(node)).failure_of(key)
    if reason is None and "Environment variable" in (said := str(error).splitlines()[0]):
        reason = said
    return (
        key,
        f"={shown(raw[name])}: {expectation(hint, field.metadata)}{f', but {reason}' if reason else ''}",
    )


def _told(node: DictConfig, key: str, value: Any) -> str:
    return Unresolved(_root(node)).text_of(key) or shown(value)


def _root(node: DictConfig) -> DictConfig:
    root = node._get_root()
    assert isinstance(root, DictConfig)
    return root


def _schemaless_problems(node: DictConfig, key: str) -> Iterator[tuple[str, str]]:
    """A user's own class has settings of its own, which only the class can check."""
    group = group_of(key)
    schemas = [_settings_of(kind) for kind in SCHEMAS.get(group, {}).values()]
    if not all("_target_" in settings for settings in schemas):
        names = ", ".join(f"/schema/{group}/{name}@_here_" for name in SCHEMAS[group])
        yield key, f": its file must build on a schema; add to its defaults list one of {names}"
    elif not isinstance(node.get("_target_"), str):
        yield f"{key}._target_", ": needs a value: the class, as package.module.Class"
    elif all("_partial_" in settings for settings in schemas) and node.get("_partial_") is not True:
        found = shown(node.get("_partial_"))
        yield f"{key}._partial_", f"={found}: expected true, as every {group} is built where it is used"
    for missing in sorted(OmegaConf.missing_keys(node)):  # full keys
        yield missing, ": needs a value"

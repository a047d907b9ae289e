"""Settings of runs: which of them make a result, where they differ, and the directory that they name."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Set
from typing import Any

from ptychofno.config.errors import shown

LONGEST_SUFFIX = 80
"""File systems allow 255 bytes for the name; people read less."""

# Settings that say where and how to compute, not what.
NOT_OF_THE_RESULT = {
    "run_dir",
    "resume",
    "objective",
    "infer_batch_size",
    "enable_checkpointing",
    "data.cache_dir",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.num_threads",
    "trainer.keep_every",
    "trainer.strategy",
}
# A directory is named by these already; the rest does not change a result.
_UNNAMED = NOT_OF_THE_RESULT | {"arm", "seed", "study"}
_UNNAMED_GROUPS = ("logger", "hydra")
_UNNAMED_CHOICES = (("trainer", "default"), ("trainer", "ddp"))


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


# --- where a run is written: outputs/<study or arm>/<arm>-seed<seed>[-overrides] ---------------


def default_run_dir(
    arm: str | None,
    seed: int,
    overrides: Iterable[str],
    *,
    study: str | None = None,
    shared: Mapping[str, str] | None = None,
    model: str | None = None,
) -> str:
    """The directory of a run, relative to the working directory, another one for other ``overrides``.

    These are as typed; order and spelling (``2e-4`` or ``0.0002``) do not matter. A ``study`` names the
    directory above, and what its file gives to every run (``shared``) is not repeated; without arms it
    compares models, and ``model`` names a run.
    """
    by_model = study is not None and arm is None and model is not None
    name = (model if by_model else arm) or "default"
    name = name.replace("/", "-")
    said = [f"{key}={value}" for key, value in (shared or {}).items()]
    ending = suffix(overrides, said, {"model"} if by_model else set())
    return f"outputs/{study or name}/{name}-seed{seed}{f'-{ending}' if ending else ''}"


def of_current_job(seed: int) -> str:
    """``default_run_dir`` of the job that Hydra is composing or running; a resolver."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    job = HydraConfig.get()
    # Unresolved: a value taken from the environment must not end up in a name.
    overrides = OmegaConf.to_container(job.overrides.task, resolve=False)
    assert isinstance(overrides, list)
    choices = job.runtime.choices
    return default_run_dir(
        choices.get("arm"),
        seed,
        [str(entry) for entry in overrides],
        study=choices.get("study"),
        shared={key: str(value) for key, value in (job.sweeper.get("params") or {}).items()},
        model=choices.get("model"),
    )


def absolute(path: str) -> str:
    """``path`` from the working directory, ``~`` expanded; a resolver."""
    return os.path.abspath(os.path.expanduser(path))


def suffix(overrides: Iterable[str], shared: Iterable[str] = (), unnamed: Set[str] = frozenset()) -> str:
    """What a directory's name tells of ``overrides``: those that change a result and are not ``shared``."""
    common = _values(shared)
    values = {
        key: value
        for key, value in _values(overrides).items()
        if key not in _UNNAMED | unnamed
        and re.split("[./]", key)[0] not in _UNNAMED_GROUPS
        and (key, value) not in _UNNAMED_CHOICES
        and common.get(key) != value
    }
    exact = "\n".join(f"{key}={value}" for key, value in sorted(values.items()))
    readable = ",".join(
        re.sub(r"[^\w.+=-]", "_", f"{key.replace('/', '.')}={value}", flags=re.ASCII)
        for key, value in sorted(values.items())
    )
    lossless = readable == exact.replace("/", ".").replace("\n", ",")
    if lossless and len(readable) <= LONGEST_SUFFIX:
        return readable
    digest = hashlib.sha256(exact.encode()).hexdigest()[:6]
    return f"{readable[: LONGEST_SUFFIX - 7].rstrip('.,=_-')}-{digest}"


def _values(overrides: Iterable[str]) -> dict[str, str]:
    """What is set to what; a key with several values, to be swept, is left out."""
    from ptychofno.config.overrides import normalised, parsed

    values: dict[str, str] = {}
    for override in parsed(list(map(normalised, overrides))):
        if override.is_sweep_override():
            continue
        # optimizer={lr: 1} says what optimizer.lr=1 says
        entries = flat(override.value(), override.key_or_group)
        values |= {key: shown(value) for key, value in entries.items()}
    return values

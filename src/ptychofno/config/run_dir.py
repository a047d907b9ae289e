"""Where a run is written, from what it is: ``outputs/<arm>/<arm>-seed<seed>[-overrides]``."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ptychofno.config.errors import shown

LONGEST_SUFFIX = 80
"""File systems allow 255 bytes for the name; people read less."""

# Settings that say where and how to compute, not what.
NOT_OF_THE_RESULT = {
    "run_dir",
    "resume",
    "infer_batch_size",
    "enable_checkpointing",
    "data.cache_dir",
    "trainer.accelerator",
    "trainer.num_threads",
    "logger.name",
}
# A directory is named by its arm and seed already; the rest does not change a result.
_UNNAMED = NOT_OF_THE_RESULT | {"arm", "seed"}
_UNNAMED_GROUPS = ("logger", "hydra")


def default_run_dir(arm: str | None, seed: int, overrides: Iterable[str]) -> str:
    """The directory of a run, relative to the working directory.

    ``overrides`` as typed; their order and spelling (``2e-4`` or ``0.0002``) do not matter, of
    several for one key the last counts. Different sets get different names: what cannot stand
    in a file name, or is too long for one, is replaced and told apart by a hash.
    """
    name = (arm or "default").replace("/", "-")
    suffix = _suffix(overrides)
    return f"outputs/{name}/{name}-seed{seed}{f'-{suffix}' if suffix else ''}"


def of_current_job(seed: int) -> str:
    """``default_run_dir`` of the job that Hydra is composing or running; a resolver."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    job = HydraConfig.get()
    # Unresolved: a value taken from the environment must not end up in a name.
    overrides = OmegaConf.to_container(job.overrides.task, resolve=False)
    assert isinstance(overrides, list)
    return default_run_dir(job.runtime.choices.get("arm"), seed, [str(entry) for entry in overrides])


def absolute(path: str) -> str:
    """``path`` from the working directory; a resolver."""
    return os.path.abspath(path)


def _suffix(overrides: Iterable[str]) -> str:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    values: dict[str, str] = {}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        for key, value in _entries(override.key_or_group, override.value()):
            if key not in _UNNAMED and re.split("[./]", key)[0] not in _UNNAMED_GROUPS:
                values[key] = shown(value)
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


def _entries(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """``optimizer={lr: 1}`` says what ``optimizer.lr=1`` says."""
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _entries(f"{key}.{name}", entry)
    else:
        yield key, value

"""From overrides to a checked configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from ptychofno.config.diagnosis import REFUSALS, check_typed, explain
from ptychofno.config.errors import ConfigError
from ptychofno.config.run_dir import settle
from ptychofno.config.sources import Sources
from ptychofno.config.validation import check_counts, validate


def compose(overrides: Sequence[str] = (), *, config_dir: str | None = None) -> DictConfig:
    """The configuration that ``python -m ptychofno.train`` would run with these overrides.

    ``run_dir`` is resolved, no state is left behind and none is needed. ``config_dir`` holds
    further YAML files. Raises ConfigError with one line for whatever is not valid.
    """
    cfg = checked(Sources.open(config_dir), list(overrides))
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def checked(sources: Sources, overrides: list[str]) -> DictConfig:
    """The composed and validated configuration with a resolved ``run_dir`` and Hydra's own node."""
    overrides = [sources.normalised(override) for override in overrides]
    check_typed(sources, overrides)
    try:
        cfg = sources.load(overrides)
    except REFUSALS as error:
        raise explain(sources, overrides, error) from error
    if cfg.hydra.job.chdir:
        raise ConfigError(
            "hydra.job.chdir=true: a run stays where it is started; run_dir=… says where it is written"
        )
    typed = [o.key_or_group for o in sources.parse(overrides) if not sources.is_choice(o)]

    def file_of(key: str) -> str | None:
        if any(f"{key}.".startswith(f"{t}.") or t.startswith(f"{key}.") for t in typed):
            return None
        return sources.setter_of(key, overrides)

    with current(cfg):
        validate(cfg, file_of)
        check_counts(cfg)
        settle(cfg)
    return cfg


@contextmanager
def current(cfg: DictConfig) -> Iterator[None]:
    """Let the resolvers see ``cfg`` as the current job's."""
    with job_restored():
        HydraConfig.instance().set_config(cfg)
        yield


@contextmanager
def job_restored() -> Iterator[None]:
    """Afterwards, Hydra's idea of the current job is what it was before."""
    holder = HydraConfig.instance()
    before = holder.cfg
    try:
        yield
    finally:
        holder.cfg = before

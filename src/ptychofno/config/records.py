"""A configuration as other layers and later readers take it: typed objects and resolved text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ptychofno import artifacts
from ptychofno.config.schema import Config


def settings(cfg: DictConfig) -> Config:
    """The resolved values as instances of the schema's dataclasses.

    A part of a user's own, whose file names no schema, becomes a plain dict.
    """
    values = OmegaConf.to_object(cfg)
    assert isinstance(values, Config), f"not a composed configuration: {type(values).__name__}"
    return values


def resolved_yaml(cfg: DictConfig) -> str:
    """Every value resolved, except those taken from the environment: what may be secret stays unsaid."""
    hidden: dict[str, str] = {}

    def hide(text: str) -> str:
        if "oc.env" not in text:
            return text
        token = f"<environment {len(hidden)}>"
        hidden[token] = text
        return token

    def restore(text: str) -> str:
        for token, original in hidden.items():
            text = text.replace(token, original)
        return text

    visible = OmegaConf.create(_map_text(OmegaConf.to_container(cfg, resolve=False), hide))
    resolved = OmegaConf.to_container(visible, resolve=True)
    return OmegaConf.to_yaml(OmegaConf.create(_map_text(resolved, restore)))


def write_hydra_record(run_dir: Path | str) -> None:
    """Write what Hydra composed the current job from to ``run_dir/.hydra``, unresolved.

    Values of environment variables are left out. Outside a Hydra job there is nothing to record.
    """
    if not HydraConfig.initialized():
        return
    job = HydraConfig.get()
    composed = OmegaConf.to_container(job._get_parent(), resolve=False)  # type: ignore[attr-defined]
    assert isinstance(composed, dict)
    hydra = composed.pop("hydra")
    hydra["job"]["env_set"] = dict.fromkeys(hydra["job"]["env_set"], "***")
    hydra["overrides"]["hydra"] = [_masked(override) for override in hydra["overrides"]["hydra"]]
    directory = Path(run_dir) / artifacts.HYDRA_DIR
    for name, content in (
        ("config.yaml", composed),
        ("overrides.yaml", hydra["overrides"]["task"]),
        ("hydra.yaml", {"hydra": hydra}),
    ):
        artifacts.write_text(directory / name, OmegaConf.to_yaml(OmegaConf.create(content)))


def in_sweep() -> bool:
    """Whether the current job is one of several."""
    return HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().job, "num")


def _masked(override: str) -> str:
    return f"{override.partition('=')[0]}=***" if "env_set" in override else override


def _map_text(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {key: _map_text(entry, change) for key, entry in value.items()}
    if isinstance(value, list):
        return [_map_text(entry, change) for entry in value]
    return change(value) if isinstance(value, str) else value

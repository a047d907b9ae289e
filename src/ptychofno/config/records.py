"""A configuration as other layers and later readers take it: typed objects and resolved text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ptychofno.config.schema import Config, Evaluation, Trainer
from ptychofno.runs import artifacts

_OBJECTS = ("data", "probe", "refine")


def settings(cfg: DictConfig) -> Config:
    """The resolved values: data, probe and refinement as objects, other parts as plain dicts."""
    from hydra.utils import instantiate

    values: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    values.pop("hydra", None)
    objects = {name: instantiate(values[name], _convert_="all") for name in _OBJECTS}
    trainer, evaluation = Trainer(**values["trainer"]), Evaluation(**values["evaluation"])
    return Config(**{**values, **objects, "trainer": trainer, "evaluation": evaluation})


def resolved_yaml(cfg: DictConfig) -> str:
    """Every value resolved."""
    return OmegaConf.to_yaml(cfg, resolve=True)


def write_hydra_record(run_dir: Path | str) -> None:
    """Write what Hydra composed the current job from to ``run_dir/.hydra``, unresolved.

    Values of environment variables are left out. Outside a Hydra job there is nothing to record.
    """
    if not HydraConfig.initialized():
        return
    composed: Any = OmegaConf.to_container(HydraConfig.get()._get_parent(), resolve=False)  # type: ignore[attr-defined]
    hydra = composed.pop("hydra")
    typed = hydra["overrides"]
    hydra["job"]["env_set"] = dict.fromkeys(hydra["job"]["env_set"], "***")
    typed["hydra"] = [artifacts.without_secrets(word) for word in typed["hydra"]]
    for name, content in (("config", composed), ("overrides", typed["task"]), ("hydra", {"hydra": hydra})):
        file = Path(run_dir) / artifacts.HYDRA_DIR / f"{name}.yaml"
        artifacts.write_text(file, OmegaConf.to_yaml(OmegaConf.create(content)))


def chosen(group: str) -> str | None:
    """The file that the current job takes of an optional group, such as ``arm``; None when there is none."""
    choice = HydraConfig.get().runtime.choices.get(group) if HydraConfig.initialized() else None
    return None if choice is None else str(choice)


def in_sweep() -> bool:
    """Whether the current job is one of several."""
    return HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().job, "num")

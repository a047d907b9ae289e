"""Configuration: YAML files, their schema, and the command line.

The names below are imported when first used, so that a layer which only needs the plain
dataclasses of ``ptychofno.config.schema`` does not load Hydra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptychofno.config.composition import compose as compose
    from ptychofno.config.environment import without_environment as without_environment
    from ptychofno.config.records import chosen as chosen
    from ptychofno.config.records import in_sweep as in_sweep
    from ptychofno.config.records import resolved_yaml as resolved_yaml
    from ptychofno.config.records import settings as settings
    from ptychofno.config.records import write_hydra_record as write_hydra_record

_HOMES = {
    "compose": "composition",
    "chosen": "records",
    "in_sweep": "records",
    "resolved_yaml": "records",
    "settings": "records",
    "without_environment": "environment",
    "write_hydra_record": "records",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

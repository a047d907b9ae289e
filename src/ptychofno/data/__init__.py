"""Datasets: simulated or measured, generated once and cached as memory-mapped arrays.

Imported when first used: what reads files needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptychofno.data.cache import GENERATOR_VERSION, CacheError, dataset_key, load_dataset
    from ptychofno.data.dataset import PtychoDataset, Split
    from ptychofno.data.probe import make_probe

__all__ = [
    "GENERATOR_VERSION",
    "CacheError",
    "PtychoDataset",
    "Split",
    "dataset_key",
    "load_dataset",
    "make_probe",
]

_HOMES = {
    "GENERATOR_VERSION": "cache",
    "CacheError": "cache",
    "PtychoDataset": "dataset",
    "Split": "dataset",
    "dataset_key": "cache",
    "load_dataset": "cache",
    "make_probe": "probe",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

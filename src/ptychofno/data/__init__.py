"""Datasets: simulated or measured, generated once and cached as memory-mapped arrays.

Imported when first used: what reads files needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptychofno.data.cache import GENERATOR_VERSION, CacheError, dataset_key, load_dataset
    from ptychofno.data.dataset import PtychoDataset, Split

__all__ = ["GENERATOR_VERSION", "CacheError", "PtychoDataset", "Split", "dataset_key", "load_dataset"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = "dataset" if name in ("PtychoDataset", "Split") else "cache"
    return getattr(import_module(f"{__name__}.{home}"), name)

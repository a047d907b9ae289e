"""Datasets: simulated or measured, generated once and cached as memory-mapped arrays."""

from ptychofno.data.cache import GENERATOR_VERSION, CacheError, dataset_key, load_dataset
from ptychofno.data.dataset import PtychoDataset, Split

__all__ = [
    "GENERATOR_VERSION",
    "CacheError",
    "PtychoDataset",
    "Split",
    "dataset_key",
    "load_dataset",
]

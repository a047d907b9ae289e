"""What is evaluated. n samples, C channels, N pattern size, k objects of (H, W)."""

from typing import Any

from numpy.typing import NDArray

from ptychofno.data.dataset import PtychoDataset as Dataset
from ptychofno.data.dataset import Split

__all__ = ["Array", "Dataset", "Split"]

Array = NDArray[Any]

"""Where the channels of activations (B, C, H, W) lie in memory.

Convolutions on CPUs take less time in torch's channels_last, in memory (B, H, W, C): experiments/bench.
The network chooses at its entrance (``Generator.arrange``); every layer returns the layout that it is given,
in the gradient, too. A layer that takes ``x.view`` for granted works in one of them only.
"""

from __future__ import annotations

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Whether channels are neighbours in memory. Asks the strides, which are known under vmap, too."""
    return x.stride(1) == 1


def to_channels_last(x: Tensor) -> Tensor:
    """A copy in channels_last; also of a single channel, where ``contiguous`` would see nothing to do."""
    return x.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).permute(0, 3, 1, 2)

"""torch's optimizers with the settings that are taken; Muon stands in ``muon``.

A function ``(parameters, …)`` that returns an optimizer; torch's own classes serve as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from annotated_types import Ge, Gt, Len, Lt
from torch import nn
from torch.optim import SGD, Adam, AdamW
from typing_extensions import Doc

LearningRate = Annotated[float, Gt(0), Doc("learning rate")]
Share = Annotated[float, Ge(0), Lt(1)]
Betas = Annotated[Sequence[Share], Len(2, 2), Doc("of Adam, decay of the first and second moment")]
Fused = Annotated[bool, Doc("update all parameters in one kernel; false takes torch's loop over them")]


def adam(
    parameters: Iterable[nn.Parameter],
    lr: LearningRate = 1e-3,
    betas: Betas = (0.9, 0.999),
    weight_decay: Annotated[float, Ge(0), Doc("L2 penalty")] = 0.0,
    fused: Fused = True,
) -> Adam:
    """Kingma and Ba 2015."""
    return Adam(parameters, lr=lr, betas=(betas[0], betas[1]), weight_decay=weight_decay, fused=fused)


def adamw(
    parameters: Iterable[nn.Parameter],
    lr: LearningRate = 1e-3,
    betas: Betas = (0.9, 0.999),
    weight_decay: Annotated[float, Ge(0), Doc("decoupled decay")] = 0.01,
    fused: Fused = True,
) -> AdamW:
    """Loshchilov and Hutter 2019."""
    return AdamW(parameters, lr=lr, betas=(betas[0], betas[1]), weight_decay=weight_decay, fused=fused)


def sgd(
    parameters: Iterable[nn.Parameter],
    lr: LearningRate = 1e-2,
    momentum: Annotated[float, Ge(0), Lt(1), Doc("momentum; Nesterov's form when positive")] = 0.9,
    weight_decay: Annotated[float, Ge(0), Doc("L2 penalty")] = 0.0,
) -> SGD:
    """Stochastic gradient descent, in Nesterov's form whenever there is momentum."""
    return SGD(
        parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0, fused=True
    )

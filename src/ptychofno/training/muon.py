"""Muon: momentum whose update of a matrix is made orthogonal (Jordan et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.optim import Optimizer
from typing_extensions import Doc

from ptychofno.training.optimizers import Betas

# Of Jordan et al.: the steepest at 0 of those that keep singular values near 1 in the end.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_TINY = 1e-7
_SMALLEST_NARROW = 32
_SMALL_ROWS = 32
_ADAM_EPS = 1e-8
_ADAM_RMS = 0.2
"""Root mean square of Adam's updates over the learning rate; Liu et al. 2025 saw 0.2 to 0.4."""


class Muon(Optimizer):
    """Muon for the hidden matrices of a network and Adam for the rest, as one optimizer.

    Matrices are the weights of convolutions and linear layers, all axes but the first together, and of
    spectral layers (P, I, O), plane by plane. The first and the last of them, in the order of the parameters,
    go with Adam, as biases and gains do. A matrix (m, n) goes lr · 0.2 √max(m, n) along the orthogonal factor
    of its Nesterov momentum, as far as Adam would go (Liu et al. 2025). As with torch's fused optimizers,
    ``found_inf`` may be set to a tensor that is not 0 where a step must leave the parameters alone. torch's
    own Muon takes tensors of two axes only.
    """

    obeys_found_inf = True
    found_inf: Tensor | None = None

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: Annotated[
            float, Gt(0), Doc("learning rate of Adam; of matrices scaled to steps of the same size")
        ] = 3e-3,
        betas: Betas = (0.9, 0.999),
        momentum: Annotated[float, Ge(0), Lt(1), Doc("Nesterov momentum of matrices")] = 0.95,
        weight_decay: Annotated[float, Ge(0), Doc("decoupled decay of all parameters")] = 0.0,
    ) -> None:
        parameters = list(parameters)
        hidden = [parameter for parameter in parameters if _is_matrix(parameter)][1:-1]
        among = {id(parameter) for parameter in hidden}
        rest = [parameter for parameter in parameters if id(parameter) not in among]
        super().__init__(
            [{"params": rest, "hidden": False}, {"params": hidden, "hidden": True}],
            {"lr": lr, "betas": tuple(betas), "momentum": momentum, "weight_decay": weight_decay},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        with torch.enable_grad():
            loss = None if closure is None else closure()
        found_inf = self.found_inf
        taken = torch.ones((), dtype=torch.bool) if found_inf is None else found_inf == 0
        for group in self.param_groups:
            moving = [parameter for parameter in group["params"] if parameter.grad is not None]
            if moving:
                before = [] if found_inf is None else torch._foreach_clone(moving)
                torch._foreach_mul_(moving, 1 - group["lr"] * group["weight_decay"])
                step = self._step_hidden if group["hidden"] else self._step_rest
                step(moving, [parameter.grad for parameter in moving], group)
                for parameter, kept in zip(moving, before, strict=False):
                    parameter.copy_(torch.where(taken, parameter, kept))
        return loss

    def _step_hidden(self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        moments = [self._memory(parameter, "momentum_buffer") for parameter in parameters]
        torch._foreach_lerp_(moments, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, moments, group["momentum"])
        matrices = [_as_matrices(update) for update in ahead]
        for indices in _together(matrices):
            found = _orthogonalised_together([matrices[index] for index in indices])
            for index, update in zip(indices, found, strict=True):
                length = group["lr"] * _ADAM_RMS * math.sqrt(max(update.shape[1:]))
                parameters[index].sub_(update.reshape(parameters[index].shape), alpha=length)

    def _step_rest(self, parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        """Kingma and Ba 2015, Algorithm 1."""
        first, second = (
            [self._memory(parameter, name) for parameter in parameters] for name in ("exp_avg", "exp_avg_sq")
        )
        steps = [self.state[parameter].setdefault("step", torch.zeros(())) for parameter in parameters]
        torch._foreach_add_(steps, 1)
        beta_1, beta_2 = group["betas"]
        torch._foreach_lerp_(first, gradients, 1 - beta_1)
        torch._foreach_mul_(second, beta_2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta_2)
        taken = [float(step) for step in steps]  # on the CPU
        sizes = torch._foreach_sqrt(second)
        torch._foreach_div_(sizes, [math.sqrt(1 - beta_2**t) for t in taken])
        torch._foreach_add_(sizes, _ADAM_EPS)
        torch._foreach_addcdiv_(parameters, first, sizes, [-group["lr"] / (1 - beta_1**t) for t in taken])

    def _memory(self, parameter: Tensor, name: str) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        value: Tensor = state[name]
        return value


def orthogonalised(matrices: Tensor) -> Tensor:
    """Nearly U Vᵀ of each matrix U S Vᵀ of (B, m, n); 0 of one that is 0.

    Five steps of the Newton-Schulz iteration X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X from X / |X| (Jordan et al.
    2024): singular values above a hundredth of that norm end between 0.68 and 1.14, with products in
    bfloat16, taken where it is faster (on GPUs and processors with tiles for it), between 0.66 and 1.16.
    Training notices neither.
    """
    upright = _is_upright(matrices)
    x = matrices.mT if upright else matrices
    norm = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
    x = (x / norm.clamp_(min=_TINY)).to(_products_in(x))
    a, b, c = _QUINTIC
    for _ in range(_STEPS):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.to(matrices.dtype)
    return x.mT.contiguous() if upright else x


def _orthogonalised_together(matrices: Sequence[Tensor]) -> list[Tensor]:
    """``orthogonalised`` of each (B, m, n) in one go: zeros beside a matrix stay zeros and change nothing."""
    if len(matrices) == 1:
        return [orthogonalised(matrices[0])]
    wide = [matrix.mT if _is_upright(matrix) else matrix for matrix in matrices]
    columns = max(matrix.shape[2] for matrix in wide)
    padded = torch.cat([pad(matrix, (0, columns - matrix.shape[2])) for matrix in wide])
    found = orthogonalised(padded).split([len(matrix) for matrix in wide])
    cut = [part[..., : matrix.shape[2]] for part, matrix in zip(found, wide, strict=True)]
    return [part.mT if _is_upright(matrix) else part for part, matrix in zip(cut, matrices, strict=True)]


def _together(matrices: Sequence[Tensor]) -> list[list[int]]:
    """Which of the (B, m, n) to orthogonalise in one go.

    On small matrices each of the twenty operations of a step takes longer to start than to do: single ones of
    few rows go with all others of so many, large ones with those of their shape.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, matrix in enumerate(matrices):
        rows, columns = sorted(matrix.shape[1:])
        key = (rows,) if rows <= _SMALL_ROWS else (rows, columns)
        groups.setdefault(key if len(matrix) == 1 else (-1, index), []).append(index)
    return list(groups.values())


def _is_upright(matrix: Tensor) -> bool:
    return matrix.shape[1] > matrix.shape[2]


def _products_in(x: Tensor) -> torch.dtype:
    """The type of number in which to multiply (B, m, n), m <= n."""
    if x.dtype != torch.float32 or x.shape[1] < _SMALLEST_NARROW:
        return x.dtype
    if x.device.type == "cpu":
        return torch.bfloat16 if torch.cpu.get_capabilities().get("amx_bf16") else x.dtype
    with torch.cuda.device(x.device):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else x.dtype


def _is_matrix(parameter: Tensor) -> bool:
    return parameter.ndim > 1 and min(_as_matrices(parameter).shape[1:]) > 1


def _as_matrices(tensor: Tensor) -> Tensor:
    """(B, m, n): of three axes the last two, of any other number the first and all others together."""
    return tensor if tensor.ndim == 3 else tensor.flatten(1)[None]

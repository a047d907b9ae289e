import warnings

import numpy as np
import pytest
import torch
from torch import nn

from ptychofno.evaluation import predict_patches


class Echo(nn.Module):
    """Channel c becomes (x_c) + i (c + 1) x_c, so that an axis out of place shows."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.batches: list[int] = []

    def forward(self, x):
        self.batches.append(len(x))
        assert x.dtype == torch.float32
        factor = torch.arange(1, x.shape[1] + 1, device=x.device)[:, None, None]
        x = self.dropout(x)
        return torch.stack([x, factor * x], dim=-1).permute(0, 2, 3, 1, 4)


def amplitudes(n=7, channels=4, size=8):
    return np.random.default_rng(0).random((n, channels, size, size)).astype(np.float32)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_prediction_does_not_depend_on_the_batch_size(batch_size):
    x = amplitudes()
    model = Echo()
    patches = predict_patches(model, x, batch_size=batch_size)
    expected = x + 1j * np.arange(1, 5)[None, :, None, None] * x
    np.testing.assert_array_equal(patches.numpy(), expected.astype(np.complex64))
    assert patches.dtype == torch.complex64
    assert sum(model.batches) == 7
    assert max(model.batches) == min(batch_size, 7)


def test_modes_are_restored_module_by_module():
    model = nn.Sequential(Echo(), nn.Identity())
    model.train()
    model[0].dropout.eval()
    modes = [module.training for module in model.modules()]
    predict_patches(model, amplitudes(), batch_size=2)
    assert [module.training for module in model.modules()] == modes


def test_modes_are_restored_after_an_error():
    class Failing(nn.Module):
        def forward(self, x):
            raise RuntimeError("broken")

    model = Failing().train()
    with pytest.raises(RuntimeError, match="broken"):
        predict_patches(model, amplitudes(), batch_size=2)
    assert model.training


def test_a_read_only_map_is_read_in_silence(tmp_path):
    np.save(tmp_path / "x.npy", amplitudes())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        patches = predict_patches(Echo(), mapped, batch_size=4)
    assert torch.equal(patches, predict_patches(Echo(), torch.from_numpy(amplitudes()), batch_size=4))


def test_the_result_may_enter_a_gradient():
    patches = predict_patches(Echo(), amplitudes(), batch_size=4)
    scale = torch.ones(1, requires_grad=True)
    (scale * patches).abs().sum().backward()
    assert scale.grad is not None
    assert not patches.requires_grad


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"\(n, C, N, N\), not \(4, 8, 8\)"):
        predict_patches(Echo(), amplitudes()[0], batch_size=2)
    with pytest.raises(ValueError, match=r"must return \(2, 8, 8, 4, 2\), not \(2, 4, 8, 8\)"):
        predict_patches(nn.Identity(), amplitudes(), batch_size=2)


def test_a_prediction_that_is_not_finite_is_refused():
    x = amplitudes()
    x[2, 1, 3, 3] = np.nan
    with pytest.raises(ValueError, match="not finite for 1 of 7 patterns"):
        predict_patches(Echo(), x, batch_size=4)

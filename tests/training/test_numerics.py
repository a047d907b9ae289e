"""Products as precise as float32, and freed memory that serves the next step."""

import platform
import resource

import pytest
import torch

from ptychofno.training import numerics
from ptychofno.training.numerics import keep_freed_memory, precise_matmul_setting

CPU = torch.device("cpu")


def test_products_under_the_chosen_setting_have_the_precision_of_float32():
    before = torch.get_float32_matmul_precision()
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 300, 300, generator=generator)
    exact = left.double() @ right.double()
    try:
        torch.set_float32_matmul_precision(precise_matmul_setting(CPU))
        error = (left @ right - exact).abs().max()
    finally:
        torch.set_float32_matmul_precision(before)
    # Inputs in bfloat16 would be off by 2^-9 of themselves, sums of 300 products by sqrt(300) 2^-9 = 0.03.
    assert error < 1e-3


@pytest.mark.parametrize(("kept_bits", "expected"), [(24, "medium"), (8, "highest")])
def test_products_that_round_to_bfloat16_are_seen(monkeypatch, kept_bits, expected):
    exact = torch.bmm

    def product(left, right):
        rounds = kept_bits == 8 and torch.get_float32_matmul_precision() == "medium"
        if rounds and left.dtype == torch.float32:
            left, right = left.bfloat16().float(), right.bfloat16().float()
        return exact(left.double(), right.double()).to(left.dtype)

    monkeypatch.setattr(numerics.torch, "bmm", product)
    before = torch.get_float32_matmul_precision()
    assert precise_matmul_setting(CPU) == expected
    assert torch.get_float32_matmul_precision() == before


def test_a_gpu_is_left_at_its_most_precise():
    assert precise_matmul_setting(torch.device("cuda")) == "highest"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone is told")
@pytest.mark.parametrize("mebibytes", [1, 24])
def test_memory_that_was_freed_is_not_fetched_anew(mebibytes: int) -> None:
    keep_freed_memory()

    def step() -> None:
        activations = [torch.ones(mebibytes * 2**18) for _ in range(8)]
        del activations

    step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    pages = 5 * 8 * mebibytes * 2**20 / resource.getpagesize()
    # Else all of them are fetched in every step. A process that has run other tests fetches some for these.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 0.5 * pages

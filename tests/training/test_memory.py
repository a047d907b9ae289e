"""What a step has freed serves the next one."""

import platform
import resource

import pytest
import torch

from ptychofno.training.memory import keep_freed_memory


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

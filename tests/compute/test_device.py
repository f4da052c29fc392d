"""A rank takes its share of the cores, and computes in a precision that the hardware has."""

import os

import pytest
import torch

from tessera.compute import device
from tessera.errors import TesseraError


@pytest.fixture
def cores(monkeypatch):
    def set_cores(mine, all_cores, asked=""):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(mine)))
        monkeypatch.setattr(os, "cpu_count", lambda: all_cores)
        monkeypatch.setenv("OMP_NUM_THREADS", asked)

    before = torch.get_num_threads()
    yield set_cores
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("mine", "all_cores", "asked", "ranks", "threads"),
    [
        (8, 8, "", 1, 8),
        (8, 8, "", 2, 4),
        (1, 8, "", 2, 1),  # the launcher bound each rank to a core
        (2, 2, "2", 2, 1),  # a workflow manager exports the job's cores to every rank
        (8, 8, "3", 2, 3),
        (2, 2, "", 4, 1),
    ],
)
def test_ranks_share_the_cores(cores, mine, all_cores, asked, ranks, threads):
    cores(mine, all_cores, asked)
    assert device.set_threads(ranks) == threads == torch.get_num_threads()


@pytest.mark.parametrize(
    ("flags", "has"),
    [("fma avx2 avx512f", False), ("avx2 avx512_bf16", False), ("amx_bf16 amx_tile", True)],
)
def test_bf16_is_chosen_where_the_processor_multiplies_matrices_of_it(
    monkeypatch, tmp_path, flags, has
):
    class Info:
        def __init__(self, _):
            pass

        def read_text(self):
            return f"processor : 0\nflags\t: {flags}\n"

    monkeypatch.setattr(device, "Path", Info)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    device.cpu_flags.cache_clear()
    try:
        assert device.choose("auto").precision == ("bf16" if has else "fp32")
        assert device.choose("fp32").precision == "fp32"
    finally:
        device.cpu_flags.cache_clear()


def test_fp16_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TesseraError, match="needs a GPU"):
        device.choose("fp16")

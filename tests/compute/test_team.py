"""Which sums go where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tessera.compute import horovod
from tessera.compute.horovod import Team


class Horovod:
    """Stands for Horovod among two ranks, of which the other always adds 100."""

    Sum = "sum"

    def __init__(self, mpi: bool = True, threads: bool = True) -> None:
        self.mpi, self.threads = mpi, threads

    def rank(self) -> int:
        return 0

    def size(self) -> int:
        return 2

    local_rank, local_size = rank, size

    def mpi_enabled(self) -> bool:
        return self.mpi

    def mpi_threads_supported(self) -> bool:
        return self.threads

    def allreduce(self, tensor: torch.Tensor, op: str, name: str) -> torch.Tensor:
        assert op == self.Sum and name
        return tensor + 100

    def allreduce_async(self, tensor: torch.Tensor, op: str, name: str) -> dict[str, Any]:
        return {"sum": self.allreduce(tensor, op, name), "looks": 0}

    def poll(self, handle: dict[str, Any]) -> bool:
        handle["looks"] += 1
        return handle["looks"] > 2

    def synchronize(self, handle: dict[str, Any]) -> torch.Tensor:
        assert self.poll(handle)  # it would hold the core
        return handle["sum"]


class Ranks:
    """Stands for a communicator of two ranks, of which the other adds 10."""

    def Reduce(self, mine: np.ndarray, total: np.ndarray, root: int) -> None:  # noqa: N802
        assert root == 0 and mine.flags.c_contiguous
        total[...] = mine + 10

    def Bcast(self, total: np.ndarray, root: int) -> None:  # noqa: N802
        assert root == 0


def test_small_sums_go_straight_to_mpi_where_there_is_one() -> None:
    given = torch.arange(6, dtype=torch.float64).view(2, 3).T
    assert torch.equal(Team(Horovod(), Ranks()).sum(given, "told"), given + 10)
    assert torch.equal(Team(Horovod()).sum(given, "told"), given + 100)
    assert torch.equal(Team().sum(given, "told"), given)


def test_gradients_go_through_horovod() -> None:
    gradients = [torch.zeros(2, 2), torch.zeros(3)]
    Team(Horovod(), Ranks()).average(gradients, "gradients")
    assert all((g == 100).all() for g in gradients)


@pytest.mark.parametrize("hvd", [Horovod(mpi=False), Horovod(threads=False)])
def test_without_mpi_in_threads_there_is_no_communicator(hvd: Any) -> None:
    assert horovod._communicator(hvd) is None

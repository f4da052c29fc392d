"""Some of the fault matrix, each run with other seeds; ``make faults`` throws all of it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.cluster.faults import matrix, places
from tests.cluster.faults.matrix import Fault, Planned
from tests.cluster.onebox import OneBox

pytestmark = pytest.mark.slow
# A block that fails, a damaged shard and a job that is cancelled have tests of their own.
HERE = [f for f in (*matrix.LOCAL, matrix.FULL) if f.come.__name__ in ("all_killed", "disk_full")]
ON_SLURM = [f for f in matrix.SLURM if f.come.__name__ == "node_down"]


def names(fault: Fault) -> str:
    return fault.come.__name__


@pytest.fixture
def seed() -> int:
    """Another one each time; TESSERA_FAULT_SEED repeats one."""
    value = int(os.environ.get("TESSERA_FAULT_SEED", random.SystemRandom().randrange(10**6)))
    print(f"fault seed {value}")
    return value


def throw(planned: Planned, finished: Path, scratch: Path) -> None:
    """Throw a fault; `throw` itself compares all bytes."""
    line = matrix.throw(planned, finished, scratch)
    print(line)
    assert line["same"] and line.get("noted_done_again", 0) == 0
    assert line.get("in_flight", 0) <= line.get("ranks", 0)


@pytest.mark.parametrize("fault", HERE, ids=names)
def test_on_this_machine(fault: Fault, seed: int, finished: Path, tmp_path: Path) -> None:
    if fault is matrix.FULL and not places.build_full_disk(tmp_path / places.FULL_DISK):
        pytest.skip("no C compiler here (cc): the full disk is left out")
    throw(matrix.on_this_machine(fault, seed), finished, tmp_path)


def test_on_the_stand_in_for_pbs(seed: int, finished: Path, tmp_path: Path) -> None:
    throw(matrix.on_pbs(matrix.PBS[0], seed), finished, tmp_path)


@pytest.mark.cluster
@pytest.mark.parametrize("fault", ON_SLURM, ids=names)
def test_on_slurm(fault: Fault, seed: int, slurm: OneBox, finished: Path, tmp_path: Path) -> None:
    throw(matrix.on_slurm(fault, seed, slurm), finished, tmp_path)

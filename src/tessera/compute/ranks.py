"""MPI ranks: how many there are, checked against how many there should be.

mpi4py is only loaded when a launcher started the process or more than one rank is asked for, so
that one process needs no MPI.
"""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Any

from tessera.errors import TesseraError

_PR_SET_PDEATHSIG = 1
_LAUNCHED = ("OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID")


def world(expected: int) -> Any | None:
    """Return MPI's world communicator, or None for a single process.

    A wrong launcher makes N lonely processes that all believe to be rank 0 of 1, and would write
    the same files; so each command is told how many ranks it should be.

    Args:
        expected: the number of ranks that the command was told of.

    Raises:
        TesseraError: if there are more or fewer.
    """
    if expected == 1 and not any(name in os.environ for name in _LAUNCHED):
        return None
    if _on_one_node():
        # Open MPI looks for fabrics for a second, though ranks of one node share its memory.
        os.environ.setdefault("OMPI_MCA_btl", "^ofi")
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    if comm.Get_size() != expected:
        raise TesseraError(
            f"this command should be {expected} MPI ranks but finds itself one of "
            f"{comm.Get_size()}; start it with the launcher of the MPI that tessera was built with "
            f"(mpiexec -n {expected}, or srun --mpi=pmix), and give --ranks to match"
        )
    if expected == 1:
        return None
    _die_with_the_launcher()
    return comm


def _on_one_node() -> bool:
    """True if the launcher says that all ranks are on this node."""
    here, there = "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_SIZE"
    if here in os.environ and there in os.environ:
        return os.environ[here] == os.environ[there]
    return os.environ.get("SLURM_STEP_NUM_NODES") == "1"


def _die_with_the_launcher() -> None:
    """Ask the kernel to end this rank when its launcher is gone.

    An MPI launcher that is killed outright (kill -9, out of memory) leaves its ranks running;
    they would go on for hours beside the rerun.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    prctl = getattr(libc, "prctl", None)
    if prctl is not None:  # Linux
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def rank_of(comm: Any | None) -> int:
    """Return this process's rank; 0 without MPI."""
    return 0 if comm is None else int(comm.Get_rank())


def root_only(comm: Any | None, function: Any, *args: Any) -> Any:
    """Run a function on rank 0 alone and hand its result to all; its error is raised on all."""
    if comm is None:
        return function(*args)
    outcome: tuple[bool, Any] = (True, None)
    if comm.Get_rank() == 0:
        try:
            outcome = (True, function(*args))
        except Exception as error:
            outcome = (False, error)
    ok, value = comm.bcast(outcome, root=0)
    if not ok:
        raise value
    return value

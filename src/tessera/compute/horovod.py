"""Horovod, thinly: the ranks of a training, and the three things that they do together.

A single process never imports Horovod. Everything goes through one :class:`Team`, so the code of a
training is the same for one process and for many.

Horovod reduces in the background: what is handed in waits until its thread looks, and ranks have
agreed on what is ready. That is right for gradients, which are many megabytes; but a step has
dozens of sums of a few numbers each (shared norms, the loss), and nothing can go on before their
result. Where the ranks talk MPI these go straight to it, on a communicator of their own.

Horovod's thread never sleeps for long: it asks the other ranks whether there is work, and offers
its core to others, but a moment only, until it has their answer. As one of equals it interrupts the
thread that computes up to three thousand times a step; so it is given the lowest priority, and a
thread that waits for what it brings sleeps: Horovod's own waiting keeps the core, which the
reduction itself then hardly gets.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tessera.errors import TesseraError

_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "HOROVOD_SIZE")
_LOWEST = 19  # priority of a thread
_NAP_S = 1e-4  # between looks for a reduction's end


class Team:
    """Ranks that train together.

    Attributes:
        rank: this process's number, from 0.
        size: how many ranks there are.
        local_rank: this process's number on its node.
        local_size: how many ranks are on this node.
    """

    def __init__(self, hvd: Any | None = None, mpi: Any | None = None) -> None:
        self._hvd, self._mpi = hvd, mpi
        self.rank = 0 if hvd is None else int(hvd.rank())
        self.size = 1 if hvd is None else int(hvd.size())
        self.local_rank = 0 if hvd is None else int(hvd.local_rank())
        self.local_size = 1 if hvd is None else int(hvd.local_size())

    @property
    def is_root(self) -> bool:
        """True on the one rank that writes."""
        return self.rank == 0

    def sum(self, tensor: Tensor, name: str) -> Tensor:
        """Return the sum of a small tensor over ranks, with the same bytes on every rank.

        Args:
            tensor: of the same shape on every rank.
            name: the same on every rank, and for no other shape.
        """
        if self._hvd is None:
            return tensor
        if self._mpi is not None and tensor.device.type == "cpu":
            # Added up on one rank and sent to all: MPI's own sum for all may round differently
            # on different ranks.
            mine = tensor.detach().contiguous().numpy()
            summed = np.empty_like(mine)
            self._mpi.Reduce(mine, summed, root=0)
            self._mpi.Bcast(summed, root=0)
            return torch.from_numpy(summed)
        total: Tensor = self._hvd.allreduce(tensor, op=self._hvd.Sum, name=name)
        return total

    def average(self, tensors: Sequence[Tensor], name: str, compression: str = "none") -> None:
        """Replace each tensor by its mean over ranks, in place, in one reduction.

        Args:
            tensors: the same shapes in the same order on each rank.
            name: the same on every rank.
            compression: ``fp16`` and ``bf16`` halve what travels. bf16 holds what fp32 holds, to
                three digits; fp16 one digit more, of what is neither large nor tiny.
        """
        self.begin_average(tensors, name, compression)()

    def begin_average(
        self, tensors: Sequence[Tensor], name: str, compression: str = "none"
    ) -> Callable[[], None]:
        """Send what :meth:`average` sends, and return what waits for the mean and puts it in place.

        What a rank does between the two costs nothing as long as others are not ready.
        """
        if self._hvd is None:
            return lambda: None
        flat = torch.cat([t.reshape(-1) for t in tensors])
        # Divided before the sum: the sum of many fp16 gradients would overflow.
        if compression == "bf16":
            total = self._begin_sum_bf16(flat / self.size, name)
        else:
            travels = flat.half() if compression == "fp16" else flat
            handle = self._hvd.allreduce_async(travels / self.size, op=self._hvd.Sum, name=name)
            total = partial(self._end_of, handle)

        def end() -> None:
            mean = total().to(flat.dtype)
            at = 0
            for tensor in tensors:
                tensor.copy_(mean[at : at + tensor.numel()].view_as(tensor))
                at += tensor.numel()

        return end

    def _begin_sum_bf16(self, flat: Tensor, name: str) -> Callable[[], Tensor]:
        """Sum over ranks what travels as bf16, which Horovod 0.28 does not know: as its bytes.

        Each rank is sent its part of every rank's tensor, sums that in fp32, and sends the sum to
        all: as much as a reduction in a ring sends.
        """
        hvd = self._hvd
        assert hvd is not None
        part = -(-flat.numel() // self.size)
        sent = flat.new_zeros(part * self.size, dtype=torch.bfloat16)
        sent[: flat.numel()] = flat
        handle = hvd.alltoall_async(sent.view(torch.uint8), name=f"{name}.parts")

        def end() -> Tensor:
            parts, _ = self._end_of(handle)
            mine = parts.view(torch.bfloat16).view(self.size, part).float().sum(0).bfloat16()
            last = hvd.allgather_async(mine.view(torch.uint8), name=f"{name}.sums")
            found: Tensor = self._end_of(last).view(torch.bfloat16)[: flat.numel()]
            return found

        return end

    def _end_of(self, handle: Any) -> Any:
        """Return what a reduction brings, and leave the core to it until then."""
        assert self._hvd is not None
        while not self._hvd.poll(handle):
            time.sleep(_NAP_S)
        return self._hvd.synchronize(handle)

    def broadcast(self, tensors: Sequence[Tensor], name: str) -> None:
        """Replace each tensor by rank 0's, in place."""
        if self._hvd is None:
            return
        for number, tensor in enumerate(tensors):
            # Horovod moves memory as it lies; ours may be channels-last.
            dense = tensor.detach().contiguous()
            tensor.detach().copy_(self._hvd.broadcast(dense, 0, name=f"{name}.{number}"))

    def tell(self, value: Any, name: str) -> Any:
        """Return rank 0's picklable value on every rank."""
        return value if self._hvd is None else self._hvd.broadcast_object(value, 0, name=name)

    def from_root(self, function: Callable[[], Any], name: str) -> Any:
        """Run a function on rank 0 alone and return its value, or raise its error, on all."""
        outcome: tuple[bool, Any] = (True, None)
        if self.is_root:
            try:
                outcome = (True, function())
            except TesseraError as error:
                outcome = (False, error)
        ok, value = self.tell(outcome, name)
        if not ok:
            raise value
        return value

    def keep_to_cores(self, threads: int) -> None:
        """Keep this process to its share of the node's cores, if the ranks there fill them.

        A thread that slept, as a rank's does that waits for others, may else wake up on another
        rank's core, and the two share it for a whole step.

        Args:
            threads: how many each rank computes with.
        """
        cores = sorted(os.sched_getaffinity(0))
        if self.local_size == 1 or self.local_size * threads != len(cores):
            return
        first = self.local_rank * threads
        for thread in _threads():  # libraries have begun some of their own
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, cores[first : first + threads])

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self._hvd is not None:
            self._hvd.allreduce(torch.zeros(1), op=self._hvd.Sum, name="barrier")

    def close(self) -> None:
        """Leave; nothing can be reduced afterwards."""
        if self._hvd is not None:
            self._hvd.shutdown()
            self._hvd = self._mpi = None


def join(expected: int) -> Team:
    """Make the team of all ranks that were started.

    Args:
        expected: how many ranks there should be; a wrong launcher makes as many lonely ones.

    Raises:
        TesseraError: if there are more or fewer, or Horovod is needed but not installed.
    """
    started = max([int(os.environ.get(name, "1")) for name in _SIZES])
    if expected == 1 and started == 1:
        return Team()
    # Milliseconds between its looks for work: gradients wait for a look or two at each step.
    os.environ.setdefault("HOROVOD_CYCLE_TIME", "0.3")
    try:
        import horovod.torch as hvd
    except ImportError as error:
        raise TesseraError(
            f"training on {expected} ranks needs Horovod, which cannot be imported ({error}); run "
            "'make setup', or train on one rank"
        ) from None
    before = _threads()
    hvd.init()
    for thread in _threads() - before:
        os.setpriority(os.PRIO_PROCESS, thread, _LOWEST)
    if hvd.size() != expected:
        raise TesseraError(
            f"this training should be {expected} ranks but finds itself one of {hvd.size()}; start "
            f"it with 'mpiexec -n {expected}', 'srun --mpi=pmix' or 'horovodrun -np {expected}', "
            "and give --ranks to match"
        )
    return Team(hvd, _communicator(hvd))


def _threads() -> set[int]:
    """Threads of this process; none where the system does not list them."""
    try:
        return {int(name) for name in os.listdir("/proc/self/task")}
    except FileNotFoundError:
        return set()


def _communicator(hvd: Any) -> Any | None:
    """MPI's communicator of the same ranks, where they talk MPI from more than one thread.

    ``horovodrun --gloo`` needs no MPI, and mpi4py may be of another MPI than Horovod: then MPI has
    not begun here, and all goes through Horovod.
    """
    if not hvd.mpi_enabled() or not hvd.mpi_threads_supported():
        return None
    try:
        import mpi4py

        mpi4py.rc.initialize = mpi4py.rc.finalize = False  # Horovod begins it, and ends it
        from mpi4py import MPI
    except ImportError:
        return None
    if not MPI.Is_initialized() or MPI.COMM_WORLD.Get_size() != hvd.size():
        return None
    return MPI.COMM_WORLD.Dup()

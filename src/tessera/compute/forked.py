"""Ranks of one machine without MPI: processes that are forked, and speak over pipes.

Starting MPI takes a second or two, which a small volume does not need. A :class:`Forked` answers to
what :mod:`.handout`, :mod:`.ranks` and the engine ask of an mpi4py communicator, so that these know
no difference. Rank 0 is the process that forked; all messages go to it or come from it.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections import defaultdict, deque
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Self, TypeVar

from tessera.compute.ranks import die_with_the_launcher
from tessera.errors import EXIT_FAILED, TesseraError, WorkFailed

T = TypeVar("T")
_BCAST, _BARRIER = -1, -2  # tags; those of messages are positive


class Forked:
    """One rank's end of a world of forked processes; see mpi4py for what the methods do."""

    def __init__(self, rank: int, links: dict[int, Connection], size: int) -> None:
        self._rank, self._links, self._size = rank, links, size
        self._sending = threading.Lock()
        self._came: defaultdict[int, deque[Any]] = defaultdict(deque)  # by tag

    def Get_rank(self) -> int:  # noqa: N802 - mpi4py's name, as are all below
        """This process's number; 0 is the one that forked."""
        return self._rank

    def Get_size(self) -> int:  # noqa: N802
        """How many processes there are."""
        return self._size

    def Dup(self) -> Self:  # noqa: N802
        """Tags keep messages apart already."""
        return self

    def send(self, what: Any, dest: int, tag: int) -> None:
        """Send something to a rank."""
        try:
            with self._sending:
                self._links[dest].send((tag, what))
        except OSError:
            raise _lost() from None

    def iprobe(self, tag: int) -> bool:
        """True if a message of this tag is here."""
        if not self._came[tag]:
            self._take_in(0)
        return bool(self._came[tag])

    def recv(self, tag: int, source: int | None = None) -> Any:
        """Wait for a message of this tag: from any rank on rank 0, from rank 0 on the others."""
        while not self._came[tag]:
            self._take_in(None)
        return self._came[tag].popleft()

    def _take_in(self, seconds: float | None) -> None:
        """Read one message of each rank that has sent one."""
        ready = wait(list(self._links.values()), seconds)
        for link in self._links.values():
            if link in ready:
                try:
                    tag, what = link.recv()
                except (EOFError, OSError):
                    raise _lost() from None
                self._came[tag].append(what)

    def bcast(self, what: Any, root: int = 0) -> Any:
        """Hand rank 0's value to all."""
        if self._rank:
            return self.recv(_BCAST)
        for rank in self._links:
            self.send(what, rank, _BCAST)
        return what

    def Barrier(self) -> None:  # noqa: N802
        """Wait for all."""
        if self._rank:
            self.send(None, 0, _BARRIER)
            self.recv(_BARRIER)
            return
        for _ in self._links:
            self.recv(_BARRIER)
        for rank in self._links:
            self.send(None, rank, _BARRIER)

    def Abort(self, code: int) -> None:  # noqa: N802
        """End this process at once; the others end when they miss it."""
        os._exit(code)


def _lost() -> WorkFailed:
    return WorkFailed("a process of this job is gone; what is done is kept, run the command again")


def run(processes: int, function: Callable[[Forked | None], T]) -> T:
    """Run a function in so many processes at once; returns what it returns on rank 0.

    Args:
        processes: how many; one is this process alone.
        function: is given its rank's communicator, or None for one process.

    Raises:
        WorkFailed: if a process is gone before its end; and what the function raises.
    """
    if processes == 1:
        return function(None)
    sys.stdout.flush()
    sys.stderr.flush()
    links: dict[int, Connection] = {}
    children = []
    for rank in range(1, processes):
        ours, theirs = Pipe()
        child = os.fork()
        if child == 0:
            ours.close()
            for other in links.values():
                other.close()
            os._exit(_run_child(Forked(rank, {0: theirs}, processes), function))
        theirs.close()
        links[rank] = ours
        children.append(child)
    try:
        return function(Forked(0, links, processes))
    finally:
        for link in links.values():
            link.close()
        for child in children:
            os.waitpid(child, 0)


def _run_child(comm: Forked, function: Callable[[Forked | None], object]) -> int:
    """Run the function in a forked process; returns its exit status, and never raises."""
    die_with_the_launcher()
    try:
        function(comm)
    except TesseraError as error:  # rank 0 says what is wrong
        return error.exit_status
    except BaseException:
        traceback.print_exc()
        return EXIT_FAILED
    return 0

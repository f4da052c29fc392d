"""Work handed out to ranks as they become free.

Rank 0 has a *desk*: a thread that answers the ranks' requests while rank 0 itself works like
any other. What a rank has finished is sent to the desk at once and noted there, so a killed run
loses no more than what was in flight. A slow item holds up nobody: the others go on asking.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

_TO_DESK, _ANSWER = 71, 72  # message tags
_ASK, _DONE, _BYE = "ask", "done", "bye"
_POLL_SECONDS = 0.0005


class HandOut:
    """Iterate over this rank's items, and report each result, with or without MPI.

    Each rank iterates, reports, and closes::

        with HandOut(items, note, comm) as work:
            for item in work:
                work.report(result_of(item))

    Args:
        items: all items of the batch, the same on each rank.
        note: called on rank 0, one call at a time, with each reported result.
        comm: an mpi4py communicator, or None for one process.
    """

    def __init__(self, items: Sequence[Any], note: Callable[[Any], None], comm: Any | None) -> None:
        self._items = items
        self._note = note
        # Its own communicator: the desk's messages never meet those of the stage's own code.
        self._comm = None if comm is None else comm.Dup()
        self._is_root = self._comm is None or self._comm.Get_rank() == 0
        self._next = 0
        self._stop = False
        self._lock = threading.Lock()
        self._desk: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._comm is not None and self._is_root:
            self._desk = threading.Thread(target=self._serve, name="desk", daemon=True)
            self._desk.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._comm is None:
            return
        if not self._is_root:
            self._comm.send((_BYE, self._comm.Get_rank(), None), dest=0, tag=_TO_DESK)
        elif self._desk is not None and kind is None:
            self._desk.join()

    def stop(self) -> None:
        """On rank 0: hand out nothing more (the disk is full, say)."""
        self._stop = True

    def report(self, result: Any) -> None:
        """Hand a finished item's result to rank 0, where it is noted."""
        if self._is_root:
            with self._lock:
                self._note(result)
        else:
            assert self._comm is not None
            self._comm.send((_DONE, self._comm.Get_rank(), result), dest=0, tag=_TO_DESK)

    def __iter__(self) -> Iterator[Any]:
        take = self._take if self._is_root else self._ask
        while (number := take()) >= 0:
            yield self._items[number]

    def _take(self) -> int:
        with self._lock:
            if self._stop or self._next >= len(self._items):
                return -1
            self._next += 1
            return self._next - 1

    def _ask(self) -> int:
        assert self._comm is not None
        self._comm.send((_ASK, self._comm.Get_rank(), None), dest=0, tag=_TO_DESK)
        return int(self._comm.recv(source=0, tag=_ANSWER))

    def _serve(self) -> None:
        assert self._comm is not None
        present = self._comm.Get_size() - 1
        try:
            while present:
                if not self._comm.iprobe(tag=_TO_DESK):
                    time.sleep(_POLL_SECONDS)
                    continue
                what, source, result = self._comm.recv(tag=_TO_DESK)
                if what == _DONE:
                    with self._lock:
                        self._note(result)
                elif what == _ASK:
                    self._comm.send(self._take(), dest=source, tag=_ANSWER)
                else:
                    present -= 1
        except BaseException:  # the ranks would wait for ever for a desk that is gone
            traceback.print_exc()
            self._comm.Abort(1)

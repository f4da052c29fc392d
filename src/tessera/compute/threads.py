"""Work that the threads of one process share: parts of a map, shards of a block.

For work that leaves Python's lock alone while it runs: compiled loops, packing, writing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def share(work: Callable[[T], object], parts: Sequence[T], threads: int) -> None:
    """Do all parts of some work, by so many threads.

    Raises:
        Exception: the first part's that failed, once nothing runs any more.
    """
    if min(threads, len(parts)) <= 1:
        for part in parts:
            work(part)
        return
    running = [_pool(threads).submit(work, part) for part in parts]
    wait(running)
    for done in running:
        done.result()


def share_rows(work: Callable[[tuple[int, int]], None], rows: int, threads: int) -> None:
    """Do rows 0, 1, ..., a span of them (the first, and the one after the last) a thread."""
    ends = np.linspace(0, rows, min(threads, rows) + 1).astype(int).tolist()
    share(work, list(zip(ends, ends[1:], strict=False)), threads)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "share")

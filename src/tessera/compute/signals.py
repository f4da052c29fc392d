"""A scheduler's warning, heard: SIGTERM or SIGUSR1 sets a flag that loops look at."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Warned:
    """Truthy once a signal came."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def listen() -> Iterator[Warned]:
    """Within this context SIGTERM and SIGUSR1 do not end the process but set the flag."""
    warned = Warned()

    def note(number: int, frame: FrameType | None) -> None:
        warned.signal = number

    old = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield warned
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)

"""A progress line where a person waits: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import math
import sys
import time


class Progress:
    """Count items done towards a total.

    Args:
        what: what is counted, e.g. ``"predict, blocks"``.
        total: how many there are.
        done: how many are done already.
        every_s: seconds between lines in a log that is not a terminal.
    """

    def __init__(self, what: str, total: int, done: int = 0, every_s: float = 20.0) -> None:
        self.what, self.total, self.done = what, total, done
        self._first, self._start = done, time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._every = 0.2 if self._terminal else every_s
        self._last = self._start

    def step(self, count: int = 1, note: str = "") -> None:
        """Count more items as done; ``note`` stands behind the numbers."""
        self.done += count
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            self._show(note)

    def finish(self, note: str = "") -> None:
        """Show the end."""
        self._show(note)
        if self._terminal:
            sys.stderr.write("\n")

    def _show(self, note: str) -> None:
        elapsed = time.monotonic() - self._start
        rate = (self.done - self._first) / elapsed if elapsed > 0 else 0.0
        left = (self.total - self.done) / rate if rate > 0 else float("nan")
        text = f"{self.what} {self.done}/{self.total}  {_clock(elapsed)} gone, {_clock(left)} left"
        text += f"  {note}" if note else ""
        if self._terminal:
            filled = 30 * self.done // max(self.total, 1)
            sys.stderr.write(f"\r[{'#' * filled}{'.' * (30 - filled)}] {text}\x1b[K")
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _clock(seconds: float) -> str:
    if math.isnan(seconds):
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

"""Trainings whose speeds are compared, in slices of some seconds by turns.

A shared machine's speed changes by a third from one half minute to the next, so trainings that run
one after another compare two states of the machine. Here all of them have begun; one runs and the
others are stopped (SIGSTOP), and after a slice the next one's turn comes. Each slice gives the
speed between its first and its last line of ``curves.jsonl``.

Of N ranks: as many trainings of one rank, each on a core of its own, run alone (``one_rank``), as N
ranks together (``ranks``), and side by side as strangers (``strangers``). A round is each of them
alone, with the ranks after each, and all strangers at once.
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

_WARM = 3  # lines of the curves until a training runs as it will
_LEAST = 3  # lines in a slice


class Training:
    """A training that has begun, and is stopped but for its slices.

    Args:
        process: the launcher; what it has started stops and goes on with it.
        curves: the lines that it writes.
    """

    def __init__(self, process: subprocess.Popen[bytes], curves: Path) -> None:
        self._process, self._curves = process, curves
        while len(self.lines()) < _WARM:
            time.sleep(0.2)
        self.stop()

    def lines(self) -> list[dict[str, Any]]:
        """Return what stands in the curves; a line half written is left out."""
        if self._process.poll() is not None:
            raise SystemExit(f"the training that writes {self._curves} has ended")
        text = self._curves.read_text() if self._curves.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def _family(self) -> Iterator[psutil.Process]:
        parent = psutil.Process(self._process.pid)
        yield from (parent, *parent.children(recursive=True))

    def stop(self) -> None:
        """Let nothing of it run."""
        for process in self._family():
            process.suspend()

    def go_on(self) -> None:
        """Let it run again."""
        for process in self._family():
            process.resume()

    def end(self) -> None:
        """Kill it; what it has learnt is not wanted."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in reversed(list(self._family())):
                process.kill()
        self._process.wait()


def _slice(trainings: Sequence[Training], seconds: float, samples: Sequence[int]) -> dict[str, Any]:
    """Let some run, and return their samples a second, summed, and the feed's mean share."""
    before = [len(training.lines()) for training in trainings]
    for training in trainings:
        training.go_on()
    time.sleep(seconds)
    # A machine in its slow hour may need longer.
    while any(len(t.lines()) < n + _LEAST for t, n in zip(trainings, before, strict=True)):
        time.sleep(0.2)
    for training in trainings:
        training.stop()
    speed, shares = 0.0, []
    for training, first, size in zip(trainings, before, samples, strict=True):
        # The first line's time holds the stop before it.
        lines = training.lines()[first:]
        steps = lines[-1]["step"] - lines[0]["step"]
        speed += steps * size / (lines[-1]["seconds"] - lines[0]["seconds"])
        shares += [line["feed_share"] for line in lines[1:] if "feed_share" in line]
    made: dict[str, Any] = {"samples_per_s": round(speed, 3)}
    return {**made, "feed_share": round(statistics.fmean(shares), 4)} if shares else made


@contextmanager
def _begun(
    begin: Callable[[str, int, int], subprocess.Popen[bytes]], folder: Path, ranks: int
) -> Iterator[tuple[list[Training], Training]]:
    made: list[Training] = []
    try:
        for core in range(ranks):
            name = f"one_{core}"
            made.append(Training(begin(name, 1, core), folder / name / "curves.jsonl"))
        made.append(Training(begin("ranks", ranks, 0), folder / "ranks" / "curves.jsonl"))
        yield made[:-1], made[-1]
    finally:
        for training in made:
            training.end()


def compare(
    begin: Callable[[str, int, int], subprocess.Popen[bytes]],
    folder: Path,
    ranks: int,
    batch: int,
    rounds: int,
    seconds: float,
) -> dict[str, Any]:
    """Measure the speed-up of ``ranks`` ranks.

    Args:
        begin: starts a training of that name, with so many ranks, on that core if it is one.
        folder: where each writes into a folder of its name.
        ranks: as many cores are used.
        batch: of one rank.
        rounds: how often every one has its turn.
        seconds: of a slice, at least; it lasts until every training has written three lines.

    Returns:
        the rounds, the medians of their speed-ups against the mean of one rank on each core, and an
        interval for that of the ranks.
    """
    found = []
    with _begun(begin, folder, ranks) as (ones, together):
        for _ in range(rounds):
            alone, teams = [], []
            for one in ones:
                alone.append(_slice([one], seconds, [batch]))
                teams.append(_slice([together], seconds, [batch * ranks]))
            apart = _slice(ones, seconds, [batch] * ranks)
            base = statistics.fmean(one["samples_per_s"] for one in alone)
            found.append(
                {
                    "one_rank": alone,
                    "ranks": teams,
                    "strangers": apart,
                    "speed_up": round(
                        statistics.fmean(team["samples_per_s"] for team in teams) / base, 3
                    ),
                    "speed_up_of_strangers": round(apart["samples_per_s"] / base, 3),
                }
            )
            print(json.dumps(found[-1]), flush=True)
    return {
        "ranks": ranks,
        "rounds": found,
        **{
            name: round(statistics.median(one[name] for one in found), 3)
            for name in ("speed_up", "speed_up_of_strangers")
        },
        "speed_up_95_percent": interval([one["speed_up"] for one in found]),
        "bar_speed_up_2_ranks": 1.8,
    }


def interval(values: Sequence[float]) -> list[float]:
    """Return the narrowest pair of values that holds the true median 95 times of a hundred or more.

    As many values lie below the median as a fair coin shows heads, whatever they are spread like;
    fewer than six hold it less often.
    """
    sorted_, size = sorted(values), len(values)
    outside, k = 2 * 0.5**size, 0  # chance that the k-th of either end does not reach the median
    while outside + 2 * math.comb(size, k + 1) * 0.5**size <= 0.05:
        k += 1
        outside += 2 * math.comb(size, k) * 0.5**size
    return [sorted_[k], sorted_[size - 1 - k]]

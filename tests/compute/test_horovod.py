"""Gradients that are averaged over ranks, against the mean of what each rank had."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.launcher import ENVIRONMENT, needs_mpi, on_ranks

RANKS = 3


@needs_mpi
def test_averages_are_the_mean_as_exactly_as_what_travels():
    pytest.importorskip("horovod.torch")
    average = Path(__file__).with_name("average.py")
    done = subprocess.run(
        [*on_ranks(RANKS), sys.executable, str(average), str(RANKS)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = {tuple(line.split()[:2]): line.split()[2:] for line in done.stdout.splitlines()}
    for rank in range(RANKS):  # Horovod's thread, and what it has started, goes behind all others
        low, own = map(int, found["lowest", str(rank)])
        assert low >= 1 and own < 19
    numbers = [torch.Generator().manual_seed(rank) for rank in range(RANKS)]
    for compression, close in (("none", 1e-6), ("fp16", 1e-3), ("bf16", 8e-3)):
        given = torch.stack(
            [
                torch.cat([torch.randn(15, generator=n), torch.randn(4, generator=n) * 1e-6])
                for n in numbers
            ]
        )
        made = [found[compression, str(rank)] for rank in range(RANKS)]
        assert made[0] == made[1] == made[2]  # or ranks would drift apart
        values = torch.tensor([float(value) for value in made[0]])
        # Each value is rounded as it is sent; small ones are as exact, but for fp16.
        size = given.abs().mean(0)
        kept = slice(0, 15 if compression == "fp16" else None)
        assert ((values - given.mean(0)).abs() <= close * size)[kept].all(), compression


_KEPT = """
import os, sys, threading
from tessera.compute.horovod import Team
team = Team()
team.local_rank, team.local_size, threads = map(int, sys.argv[1:])
end = threading.Event()
other = threading.Thread(target=end.wait, daemon=True)
other.start()
team.keep_to_cores(threads)
print(*(sorted(os.sched_getaffinity(int(task))) for task in os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core")
def test_ranks_that_fill_a_node_keep_to_their_cores_with_all_their_threads():
    cores = sorted(os.sched_getaffinity(0))

    def kept(*numbers):
        call = [sys.executable, "-c", _KEPT, *map(str, numbers)]
        found = subprocess.run(call, check=True, capture_output=True, text=True).stdout
        return found.replace("] [", "]|[").strip().split("|")

    for rank, core in enumerate(cores):
        assert set(kept(rank, len(cores), 1)) == {str([core])}
    for ranks, threads in ((1, len(cores)), (len(cores) + 1, 1), (1, 1)):
        assert set(kept(0, ranks, threads)) == {str(cores)}

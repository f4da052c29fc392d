"""Forked ranks: what they promise the hand-out, with processes that die."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tessera.compute import forked
from tessera.compute.handout import HandOut
from tessera.compute.ranks import rank_of, root_only
from tessera.errors import TesseraError, WorkFailed


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_each_item_is_done_once_and_noted(processes: int) -> None:
    noted: list[tuple[int, int]] = []

    def work(comm: Any | None) -> list[tuple[int, int]]:
        for _ in range(2):  # one batch after another over the same pipes
            with HandOut(range(40), noted.append, comm) as items:
                for item in items:
                    time.sleep(0.001)
                    items.report((item, rank_of(comm)))
            if comm is not None:
                comm.Barrier()
        return noted

    found = forked.run(processes, work)
    assert sorted(item for item, _ in found) == sorted([*range(40), *range(40)])
    assert {rank for _, rank in found} <= set(range(processes))


def test_the_root_speaks_for_all(tmp_path: Path) -> None:
    def work(comm: Any | None) -> str:
        value = root_only(comm, lambda: f"of {os.getpid()}")
        (tmp_path / str(rank_of(comm))).write_text(value)
        return str(value)

    assert forked.run(3, work) == f"of {os.getpid()}"
    assert {p.read_text() for p in tmp_path.iterdir()} == {f"of {os.getpid()}"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1", "2"]


def test_an_error_of_the_root_ends_all(tmp_path: Path) -> None:
    def fails() -> None:
        raise TesseraError("bad input")

    with pytest.raises(TesseraError, match="bad input"):
        forked.run(2, lambda comm: root_only(comm, fails))


@pytest.mark.parametrize("how", ["raises", "killed"])
def test_a_process_that_is_gone_is_missed(how: str) -> None:
    def work(comm: Any | None) -> None:
        if rank_of(comm) == 1:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ZeroDivisionError
        assert comm is not None
        comm.Barrier()

    with pytest.raises(WorkFailed, match="is gone"):
        forked.run(2, work)

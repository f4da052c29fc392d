"""Signals, hand-out, progress, ranks and measures of one process."""

from __future__ import annotations

import os
import signal

import pytest

from tessera.compute import ranks, signals
from tessera.compute.handout import HandOut
from tessera.compute.measure import cpu_seconds, peak_mib
from tessera.compute.progress import Progress
from tessera.errors import TesseraError


def test_items_are_handed_out_once_and_noted() -> None:
    noted: list[int] = []
    with HandOut(list("abcd"), noted.append, None) as work:
        for number, _ in enumerate(work):
            work.report(number)
    assert noted == [0, 1, 2, 3]


def test_stopped_it_hands_out_no_more() -> None:
    seen = []
    with HandOut(list("abcd"), lambda result: None, None) as work:
        for item in work:
            seen.append(item)
            if item == "b":
                work.stop()
    assert seen == ["a", "b"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_warning_is_heard_and_the_old_handler_comes_back(number: int) -> None:
    before = signal.getsignal(number)
    with signals.listen() as warned:
        assert not warned
        os.kill(os.getpid(), number)
        assert warned and warned.signal == number
    assert signal.getsignal(number) is before


def test_one_process_needs_no_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"):
        monkeypatch.delenv(name, raising=False)
    assert ranks.world(1) is None and ranks.rank_of(None) == 0
    assert ranks.root_only(None, lambda a: a + 1, 2) == 3


class Comm:
    """Two ranks' broadcast, played by one process."""

    def __init__(self, rank: int, heard: object = None) -> None:
        self.rank, self.heard = rank, heard

    def Get_rank(self) -> int:  # noqa: N802 - mpi4py's name
        return self.rank

    def bcast(self, value: object, root: int) -> object:
        self.heard = value if self.rank == root else self.heard
        return self.heard


def test_the_roots_error_is_raised_on_all() -> None:
    def fail() -> None:
        raise TesseraError("no")

    root = Comm(0)
    with pytest.raises(TesseraError, match="no"):
        ranks.root_only(root, fail)
    with pytest.raises(TesseraError, match="no"):
        ranks.root_only(Comm(1, root.heard), lambda: pytest.fail("not on this rank"))
    assert ranks.root_only(Comm(1, (True, 5)), lambda: 0) == 5


def test_progress_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress("blocks", 3, done=1, every_s=0.0)
    bar.step()
    bar.step(note="loss 0.5")
    bar.finish()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("blocks 2/3") or lines[0].startswith("blocks 3/3")
    assert lines[-1].startswith("blocks 3/3") and "\x1b" not in "".join(lines)


def test_measures_grow() -> None:
    before = peak_mib(), cpu_seconds()
    kept = bytearray(80 << 20)
    kept[::4096] = b"x" * len(kept[::4096])
    assert peak_mib() >= before[0] and peak_mib() > 80
    assert cpu_seconds() >= before[1]

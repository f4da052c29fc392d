"""The engine: killed, failing, torn, changed, on one process and on two ranks."""

from __future__ import annotations

import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tessera.errors import Requeue, TesseraError, WorkFailed
from tessera.volume.box import Block
from tessera.volume.engine import Task, run_batch
from tessera.volume.record import Record, journal_path, read_done, read_record
from tests.launcher import ENVIRONMENT, needs_mpi, on_ranks
from tests.volume.workload import GRID, made, prepare, right, task

WORK = Path(__file__).with_name("workload.py")
ALL = [block.name for block in GRID]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A prepared folder."""
    prepare(tmp_path)
    return tmp_path


def run(folder: Path, key: str = "key", work: Task | None = None, batch: Any = GRID) -> Record:
    """Run the batch in this process."""
    record = folder / "records/0000.json"
    return run_batch(work or task(folder), list(batch), record, key, progress=False)


def start(folder: Path, pause: float, ranks: int = 1) -> subprocess.Popen[str]:
    """Run the batch in another process."""
    return subprocess.Popen(
        [sys.executable, str(WORK), str(folder), str(ranks), str(pause), "-"],
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(folder: Path, blocks: int, process: subprocess.Popen[str]) -> None:
    """Wait until so many blocks are noted as done."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        ended = process.poll() is not None
        found = read_record(folder / "records/0000.json")
        if found is not None and len(found.entries) >= blocks:
            return
        if ended:
            raise AssertionError(f"the batch ended ({process.returncode}): {said(process)}")
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"the batch did not get on: {said(process)}")


def said(process: subprocess.Popen[str]) -> str:
    """What a process wrote on stderr, once it has ended."""
    return process.communicate()[1]


def wait_for_silence(folder: Path) -> None:
    """Wait until no process works in the folder any more."""
    while True:
        before = made(folder)
        time.sleep(0.3)
        if made(folder) == before:
            return


def test_all_blocks_once_and_right(folder: Path) -> None:
    record = run(folder)
    assert record.complete and sorted(record.entries) == sorted(ALL) == sorted(made(folder))
    assert right(folder)
    assert all(e.result["sum"] > 0 and e.peak_mib > 1 for e in record.entries.values())
    run(folder)
    assert len(made(folder)) == len(ALL)  # nothing is done twice


def test_killed_it_goes_on(folder: Path) -> None:
    process = start(folder, 0.15)
    wait_for(folder, 3, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    noted = read_record(folder / "records/0000.json")
    assert noted is not None and 3 <= len(noted.entries) < len(ALL)
    before = len(made(folder))
    run(folder)
    # At most what was in flight is made again: one block written but not noted, one computed.
    assert len(made(folder)) - before <= len(ALL) - len(noted.entries)
    assert right(folder) and read_done(folder / "records/0000.json").complete


def test_warned_it_stops_and_goes_on(folder: Path) -> None:
    process = start(folder, 0.15)
    wait_for(folder, 2, process)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == Requeue.exit_status == 75 and "run again" in error
    done = len(made(folder))
    assert 2 <= done < len(ALL)
    run(folder)
    assert sorted(made(folder)) == sorted(ALL)  # none twice: it stopped between blocks
    assert right(folder)


def test_a_failing_block_does_not_stop_its_neighbours(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WorkFailed, match=r"1 of 27 blocks failed \(block 1.1.1: .*as asked"):
        run(folder, work=task(folder, failing="1.1.1"))
    assert sorted(made(folder)) == sorted(set(ALL) - {"1.1.1"})
    assert "RuntimeError: as asked" in capsys.readouterr().err  # a traceback for whoever mends it
    assert not (folder / "records/0000.json").exists()
    run(folder)
    assert made(folder)[-1] == "1.1.1" and len(made(folder)) == len(ALL)
    assert right(folder)


def test_another_key_makes_all_again(folder: Path) -> None:
    run(folder)
    run(folder, key="other")
    assert len(made(folder)) == 2 * len(ALL)


def test_torn_and_missing_shards_alone_are_made_again(folder: Path) -> None:
    run(folder)
    shards = [folder / f"out.zarr/0/c/{n.replace('.', '/')}" for n in ("0.1.0", "2.2.2", "1.0.2")]
    shards[0].write_bytes(shards[0].read_bytes()[:-5])
    shards[1].write_bytes(shards[1].read_bytes()[:9])  # at the volume's edge
    shards[2].unlink()
    run(folder)
    assert sorted(made(folder)[len(ALL) :]) == ["0.1.0", "1.0.2", "2.2.2"]
    assert right(folder)


def test_a_torn_journal_costs_one_block(folder: Path) -> None:
    with pytest.raises(WorkFailed):
        run(folder, work=task(folder, failing="2.2.2"))
    path = journal_path(folder / "records/0000.json")
    lines = path.read_text().splitlines(keepends=True)
    good = [line for line in lines if "error" not in line]
    path.write_text("".join(good)[:-20])
    done = len(made(folder))
    run(folder)
    assert len(made(folder)) - done == 2 and right(folder)


def test_a_full_disk_stops_the_batch(folder: Path) -> None:
    work = task(folder)
    count = 0

    def write(block: Block, data: Any) -> dict[str, Any] | None:
        nonlocal count
        count += 1
        if count > 4:
            raise OSError(28, "No space left on device", str(folder))
        return work.write(block, data)

    full = Task(work.read, work.compute, write, work.files)
    with pytest.raises(TesseraError, match="disk is full.*4 of 27 blocks are done and kept"):
        run(folder, work=full)
    assert count < 10  # it did not go on trying
    run(folder)
    assert len(made(folder)) == len(ALL) and right(folder)


def test_bytes_do_not_depend_on_batches(folder: Path, tmp_path_factory: Any) -> None:
    other = tmp_path_factory.mktemp("other")
    prepare(other)
    run(folder)
    for share in (2, 0, 1):  # in any order
        blocks = [GRID[n] for n in GRID.batch(share, 3)]
        run_batch(task(other), blocks, other / f"records/{share:04d}.json", "key", progress=False)
    for block in GRID:
        shard = Path("out.zarr/0/c", *block.name.split("."))
        assert (folder / shard).read_bytes() == (other / shard).read_bytes()


# --- two ranks --------------------------------------------------------------------------------


def launched(folder: Path, count: int, expected: int, bad: str = "-", pause: float = 0.0) -> Any:
    """Run the workload under the launcher."""
    return subprocess.run(
        [*on_ranks(count), sys.executable, str(WORK), str(folder), str(expected), str(pause), bad],
        capture_output=True,
        text=True,
        timeout=120,
        env=ENVIRONMENT,
    )


@needs_mpi
def test_two_ranks_share_the_blocks(folder: Path) -> None:
    done = launched(folder, 2, 2, pause=0.02)
    assert done.returncode == 0, done.stderr
    assert sorted(made(folder)) == sorted(ALL) and right(folder)
    assert read_done(folder / "records/0000.json").complete


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=needs_mpi)])
def test_kills_cost_no_more_than_the_ranks_have_in_hand(folder: Path, count: int) -> None:
    dice = random.Random(count)
    kills = 0
    record = folder / "records/0000.json"
    for goal in (3, 8, 13, 18, 23):
        launcher = [] if count == 1 else on_ranks(count)
        process = subprocess.Popen(
            [*launcher, sys.executable, str(WORK), str(folder), str(count), "0.05", "-"],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=ENVIRONMENT,
        )
        wait_for(folder, goal, process)
        time.sleep(dice.uniform(0, 0.1))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += not record.exists()
        wait_for_silence(folder)  # ranks die with their launcher, a moment later
    run(folder)
    assert kills >= 3 and right(folder) and read_done(record).complete
    # Written by then, but not noted: what each rank had in hand.
    assert len(made(folder)) - len(ALL) <= kills * count


@needs_mpi
def test_a_failure_on_a_rank_is_named(folder: Path) -> None:
    done = launched(folder, 2, 2, bad="0.2.1", pause=0.02)
    assert done.returncode != 0 and "block 0.2.1" in done.stderr
    assert sorted(made(folder)) == sorted(set(ALL) - {"0.2.1"})
    run(folder)
    assert right(folder)


@needs_mpi
def test_a_wrong_number_of_ranks_is_refused(folder: Path) -> None:
    done = launched(folder, 2, 3)
    assert done.returncode != 0 and made(folder) == []
    assert "should be 3 MPI ranks" in done.stdout + done.stderr


@needs_mpi
def test_a_killed_launchers_folder_does_not_stop_the_next(tmp_path: Path) -> None:
    # Open MPI names it by the launcher's process number, and those come round.
    left = 'mkdir "$TMPDIR/ompi.$$" && echo left > "$TMPDIR/ompi.$$/pmix.$(uname -n).tool" && '
    line = " ".join(shlex.quote(word) for word in [*on_ranks(2), "echo", "fine"])
    env = ENVIRONMENT | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(
        ["sh", "-c", f"{left} exec {line}"], env=env, capture_output=True, text=True
    )
    assert done.stdout.split() == ["fine", "fine"], done.stderr
    assert [path.read_text() for path in tmp_path.glob("ompi.*/*")] == ["left\n"]

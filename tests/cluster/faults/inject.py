"""The faults. Each lets one come over a running trial, waits until the run has ended, and puts back
what an operator would put back (a full disk, a dead node); the trial's next run must mend the rest.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tessera.status import collect
from tessera.volume.record import Entry
from tests.cluster.faults import places, stages
from tests.cluster.faults.trial import NotMended, TooLate, Trial
from tests.cluster.onebox import OneBox


def block_fails(trial: Trial) -> None:
    """A block cannot be written; its neighbours go on, it is named, and it alone is done again."""
    todo = [
        (path, entry)
        for path, entry in stages.noted(trial.stage, trial.finished)
        if stages.shards(path, entry)
    ]
    record, entry = trial.dice.choice(todo)
    record = trial.folder / record.relative_to(trial.finished)
    in_the_way = stages.shards(record, entry)[0]
    volume = next((p for p in in_the_way.parents if p.suffix == ".zarr"), record.parent)
    first = trial.dice.randrange(3)
    trial.until(volume.exists)
    trial.until(lambda: len(stages.noted(trial.stage, trial.folder)) >= first)
    try:
        in_the_way.mkdir(parents=True)
    except FileExistsError:
        raise TooLate from None
    if trial.wait() == 0:
        raise TooLate
    failed = {
        f"{status.name}/{name}"
        for status in collect(trial.folder / stages.ROOT)
        for name in status.reasons
    }
    folder = record.parent.parent.relative_to(trial.folder / stages.ROOT)
    if failed != {f"{folder}/{record.stem}/{entry.block}"}:
        raise NotMended(
            f"status names {sorted(failed)}, not the block that failed: {trial.said()[-3000:]}"
        )
    batch = stages.records(trial.stage, trial.folder)[record]
    if len(batch.entries) != batch.total:
        raise NotMended(f"neighbours of the failing block were left: {record}")
    in_the_way.rmdir()


def job_killed(trial: Trial) -> None:
    """One process of a job is killed outright, as the kernel does when memory runs out."""
    _signal(trial, signal.SIGKILL)


def job_told_to_leave(trial: Trial) -> None:
    """A job gets SIGTERM, as from a scheduler whose time is up."""
    _signal(trial, signal.SIGTERM)


def _signal(trial: Trial, number: int) -> None:
    trial.random_moment()
    trial.until(lambda: places.stage_processes(trial.folder), 10)
    running = places.stage_processes(trial.folder)
    if not running:
        raise TooLate
    with contextlib.suppress(ProcessLookupError):
        os.kill(trial.dice.choice(running), number)
    if trial.wait() == 0:
        raise TooLate


def all_killed(trial: Trial) -> None:
    """Snakemake and everything that it started are killed at once."""
    trial.random_moment()
    trial.facts["ranks"] = max(1, len(places.stage_processes(trial.folder)))
    trial.kill()
    _gone(trial)


def snakemake_killed(trial: Trial) -> None:
    """Snakemake alone is killed; its jobs live on while the next run starts."""
    trial.random_moment()
    os.kill(trial.pid, signal.SIGKILL)
    trial.wait()


def disk_full(trial: Trial) -> None:
    """Nothing more can be written, from a random moment to the end of the run."""
    trial.random_moment()
    mark = Path(f"{trial.folder}.full")
    mark.touch()
    try:
        done = trial.wait() == 0
    finally:
        mark.unlink()
    if done:
        raise TooLate


def truncated(trial: Trial) -> None:
    """A file loses its end."""

    def cut(path: Path) -> None:
        os.truncate(path, trial.dice.randrange(path.stat().st_size))

    _damage(trial, cut)


def flipped(trial: Trial) -> None:
    """One byte of a file becomes another."""

    def flip(path: Path) -> None:
        with open(path, "r+b") as file:
            at = trial.dice.randrange(path.stat().st_size)
            file.seek(at)
            old = file.read(1)[0]
            file.seek(at)
            file.write(bytes([old ^ trial.dice.randrange(1, 256)]))

    _damage(trial, flip)


def _damage(trial: Trial, spoil: Callable[[Path], None]) -> None:
    """Spoil a noted shard while the stage runs, let the run end as it will, and find the shard."""
    trial.random_moment()
    chosen = [
        (path, entry)
        for path, entry in stages.noted(trial.stage, trial.folder)
        if stages.shards(path, entry)
    ]
    if not chosen:
        trial.until(lambda: stages.noted(trial.stage, trial.folder))
        chosen = stages.noted(trial.stage, trial.folder)
    record, entry = trial.dice.choice(chosen)
    files = stages.shards(record, entry)
    if not files:
        raise TooLate
    spoil(trial.dice.choice(files))
    trial.wait()
    _verify_finds(trial, record, entry)


def input_lost(trial: Trial) -> None:
    """A shard of the stage's input is removed, at once or while the stage runs.

    What is computed from it meanwhile must fail: as zeros it would pass, and keep its key.
    """
    before = stages.BLOCKWISE[stages.BLOCKWISE.index(trial.stage) - 1]
    record, entry = trial.dice.choice(stages.noted(before, trial.folder))
    lost = trial.dice.choice(stages.shards(record, entry))
    if trial.dice.random() < 0.5:
        trial.random_moment()
    lost.unlink()
    trial.wait()
    _verify_finds(trial, record, entry)


def _verify_finds(trial: Trial, record: Path, entry: Entry) -> None:
    found = subprocess.run(
        ["tessera", "verify", str(trial.folder / stages.ROOT)],
        env=trial.place.env,
        text=True,
        capture_output=True,
        check=False,
    )
    if found.returncode != 1 or f"{record}: block {entry.block} is not" not in found.stdout:
        raise NotMended(f"verify did not find {record} {entry.block}: {found.stdout[-500:]}")


def _gone(trial: Trial) -> None:
    """Wait until no process of a job is left: ranks die when their launcher is gone."""
    deadline = time.monotonic() + 30
    while places.stage_processes(trial.folder):
        if time.monotonic() > deadline:
            raise NotMended("processes of a job outlive it")
        time.sleep(0.01)


# --- on a cluster: the profile's own retries may mend it before the run ends --------------------


def scancel(trial: Trial, box: OneBox) -> None:
    """``scancel`` of a running job."""
    box.run("scancel", _slurm_job(trial, box)["id"])
    trial.wait()


def out_of_time(trial: Trial, box: OneBox) -> None:
    """A job's time is over (Slurm looks twice a minute)."""
    job = _slurm_job(trial, box)["id"]
    box.run("scontrol", "update", f"jobid={job}", "EndTime=now+1")
    trial.wait()


def warned(trial: Trial, box: OneBox) -> None:
    """Slurm's warning (USR1) reaches a job's ranks; they leave, and the job is tried again."""
    trial.random_moment()
    jobs = places.slurm_jobs(trial.folder, box)
    if not jobs or not places.stage_processes(trial.folder):
        raise TooLate
    # As with sbatch --signal: to the ranks, not to the batch shell.
    box.run("scancel", "--signal=USR1", trial.dice.choice(jobs)["id"])
    trial.wait()
    if "Trying to restart job" not in trial.said():
        raise TooLate


def node_down(trial: Trial, box: OneBox) -> None:
    """The node of a running job dies, and comes back when the run has ended."""
    number = int(_slurm_job(trial, box)["node"].removeprefix("node"))
    box.node_down(number)
    try:
        trial.wait()
    finally:
        box.node_up(number)


def killed_by_the_scheduler(trial: Trial) -> None:
    """A job asked for too little memory or time; tried again it asks for more, and gets through."""
    trial.wait()
    if "Trying to restart job" not in trial.said():
        raise TooLate


def qdel(trial: Trial) -> None:
    """``qdel`` of a running job."""
    trial.until(lambda: places.pbs_jobs(trial.folder))
    _pause(trial)
    running = places.pbs_jobs(trial.folder)
    if not running:
        raise TooLate
    job = str(trial.dice.choice(running)["number"])
    subprocess.run(["qdel", job], env=trial.place.env, check=False, capture_output=True)
    trial.wait()


def _slurm_job(trial: Trial, box: OneBox) -> dict[str, str]:
    """A job that runs at a random moment."""
    trial.until(lambda: places.slurm_jobs(trial.folder, box))
    _pause(trial)
    running = places.slurm_jobs(trial.folder, box)
    if not running:
        raise TooLate
    return trial.dice.choice(running)


def _pause(trial: Trial) -> None:
    """Wait for a random moment: in the work, or while jobs begin."""
    if trial.dice.random() < 0.5:
        trial.random_moment()
    else:
        time.sleep(trial.dice.uniform(0, 5))

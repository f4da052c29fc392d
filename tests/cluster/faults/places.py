"""Where a faulty run runs: on this machine, on a Slurm of its own, on the stand-in for PBS."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import standin
from tests.cluster.conftest import PBS_QUICK, QUICK, edited
from tests.cluster.onebox import OneBox
from tests.workflow.small import environment

FULL_DISK = "full_disk.so"  # beside the folders of trials, where it could be built


@dataclass(frozen=True)
class Place:
    """How Snakemake is started somewhere.

    Attributes:
        name: ``local``, ``slurm`` or ``pbs``.
        profile: of Snakemake.
        options: more of its options.
        env: the environment that it and its jobs see.
    """

    name: str
    profile: str
    options: tuple[str, ...]
    env: dict[str, str]


def local(folder: Path) -> Place:
    """This machine; the disk of the folder can be filled (see full_disk.c)."""
    env = environment() | {"OMP_NUM_THREADS": "1"}
    library = folder.parent / FULL_DISK
    if library.exists():
        env |= {"LD_PRELOAD": str(library), "FULL_DISK_BELOW": str(folder)}
    return Place("local", "local", (), env)


def slurm(folder: Path, box: OneBox, mem_mb: int | None = None) -> Place:
    """A Slurm of this machine's own; jobs may ask for so little memory at first."""
    mem = {} if mem_mb is None else {"4000 * attempt": f"{mem_mb} * attempt ** 3"}
    profile = edited("slurm", folder, mem, slurm_partition="batch")
    return Place("slurm", profile, QUICK, environment(box.environment))


def pbs(folder: Path, walltime_s: float | None = None) -> Place:
    """The stand-in for PBS Pro, with a server of its own; jobs may get so little time at first."""
    env = environment(standin.install(folder / "pbs"))
    time = {} if walltime_s is None else {"60 * attempt": "1 * attempt ** 3"}
    env |= {} if walltime_s is None else {"PBS_STANDIN_MINUTE": str(walltime_s)}
    profile = edited("pbs", folder, time, pbs_account="tomo", pbs_queue="workq")
    return Place("pbs", profile, PBS_QUICK, env)


def pbs_jobs(folder: Path) -> list[dict]:
    """Jobs of the stand-in that run now."""
    found = []
    for path in sorted((folder / "pbs/jobs").glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            job = json.loads(path.read_text())
            found += [job] if job["job_state"] == "R" else []
    return found


def slurm_jobs(folder: Path, box: OneBox) -> list[dict[str, str]]:
    """Jobs of a run that run now on a Slurm: their ids and nodes."""
    lines = box.run("squeue", "-h", "-t", "RUNNING", "-o", "%i|%N|%Z").splitlines()
    jobs = [dict(zip(("id", "node", "folder"), line.split("|"), strict=True)) for line in lines]
    return [job for job in jobs if job["folder"] == str(folder)]


def stage_processes(folder: Path) -> list[int]:
    """Processes of tessera's commands that work in a folder."""
    found = []
    for place in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0") if place.name.isdigit() else []
            ours = any(word.endswith(b"/tessera") for word in words[:2])
            if ours and os.readlink(place / "cwd") == str(folder):
                found.append(int(place.name))
    return sorted(found)


def build_full_disk(library: Path) -> bool:
    """Compile full_disk.c; False if there is no C compiler."""
    source = Path(__file__).with_name("full_disk.c")
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        return False
    return True

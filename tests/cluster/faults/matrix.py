"""The fault matrix: which faults come, how often, where, and what came of each."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.faults import inject, places, stages
from tests.cluster.faults.places import Place
from tests.cluster.faults.stages import BLOCKWISE, STAGES, Stage
from tests.cluster.faults.trial import TooLate, Trial
from tests.cluster.onebox import OneBox

_TRIES = 6  # a fault that came too late is thrown again

_RANKED = tuple(s for s in STAGES if s.name in ("recon", "train", "predict"))  # MPI on a cluster


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        name: in words.
        come: lets it come over a trial.
        times: how often the whole matrix throws it.
        among: the stages that it can come over.
        kills: it ends all processes at once, so what was in flight can be counted.
    """

    name: str
    come: Callable[..., None]
    times: int
    among: tuple[Stage, ...] = STAGES
    kills: bool = False


@dataclass(frozen=True)
class Planned:
    """A trial to come: a fault, a seed for all that is random, and where."""

    fault: Fault
    seed: int
    on: str
    place: Callable[[Path, random.Random], Place]
    box: OneBox | None = None

    def __str__(self) -> str:
        return f"{self.fault.name}, {self.on}"


LOCAL = (
    Fault("a block fails", inject.block_fails, 5, BLOCKWISE),
    Fault("a process is killed, as when memory is out", inject.job_killed, 5),
    Fault("a process is told to leave (SIGTERM)", inject.job_told_to_leave, 4),
    Fault("Snakemake and its jobs are killed", inject.all_killed, 6, kills=True),
    Fault("Snakemake is killed, its jobs live on", inject.snakemake_killed, 5),
    Fault("a shard is truncated", inject.truncated, 5, BLOCKWISE),
    Fault("a byte is flipped", inject.flipped, 5, BLOCKWISE),
    Fault("a shard of the input is lost", inject.input_lost, 5, BLOCKWISE[1:]),
)
FULL = Fault("the disk is full", inject.disk_full, 5)
SLURM = (
    Fault("scancel", inject.scancel, 4),
    Fault("the node goes down", inject.node_down, 3),
    Fault("out of time", inject.out_of_time, 1, _RANKED),
    Fault("warned of the end (USR1)", inject.warned, 2, _RANKED[1:]),
    Fault("Snakemake is killed, its jobs live on", inject.snakemake_killed, 2),
)
SLURM_MEMORY = Fault("out of memory", inject.killed_by_the_scheduler, 2, _RANKED[1:])
PBS = (Fault("qdel", inject.qdel, 3),)
PBS_TIME = Fault("out of time", inject.killed_by_the_scheduler, 2, _RANKED)


def on_this_machine(fault: Fault, seed: int) -> Planned:
    """Plan a fault on this machine, under the profile ``local``."""
    return Planned(fault, seed, "local", lambda folder, dice: places.local(folder))


def on_slurm(fault: Fault, seed: int, box: OneBox) -> Planned:
    """Plan a fault on a Slurm; those that do something to it are given it."""

    def place(folder: Path, dice: random.Random) -> Place:
        return places.slurm(folder, box, dice.randint(250, 450) if fault is SLURM_MEMORY else None)

    passed = None if fault in (SLURM_MEMORY, SLURM[-1]) else box
    return Planned(fault, seed, "slurm", place, passed)


def on_pbs(fault: Fault, seed: int) -> Planned:
    """Plan a fault on the stand-in for PBS."""

    def place(folder: Path, dice: random.Random) -> Place:
        return places.pbs(folder, dice.uniform(3, 5) if fault is PBS_TIME else None)

    return Planned(fault, seed, "pbs", place)


def all_trials(seed: int, full_disk: bool, box: OneBox | None) -> list[Planned]:
    """Plan the whole matrix, each trial with a seed of its own."""
    dice = random.Random(seed)
    trials = []
    if box is not None:
        for fault in (*SLURM, SLURM_MEMORY):
            trials += [on_slurm(fault, _draw(dice), box) for _ in range(fault.times)]
    for fault in (*PBS, PBS_TIME):
        trials += [on_pbs(fault, _draw(dice)) for _ in range(fault.times)]
    for fault in (*LOCAL, *((FULL,) if full_disk else ())):
        trials += [on_this_machine(fault, _draw(dice)) for _ in range(fault.times)]
    dice.shuffle(trials)
    return trials


def _draw(dice: random.Random) -> int:
    return dice.randrange(10**6)


def throw(planned: Planned, finished: Path, scratch: Path) -> dict[str, Any]:
    """Let one fault come over one stage, and mend it; returns what happened.

    Args:
        planned: what comes, where, and the seed of all that is random: the stage, the moment, the
            block, the byte.
        finished: folder of an undisturbed run.
        scratch: where the trial's folder goes.

    Raises:
        NotMended: the result is not that of the undisturbed run.
        TooLate: the run was over each time before the fault came.
    """
    fault = planned.fault
    began = time.monotonic()
    for attempt in range(_TRIES):
        dice = random.Random(f"{planned.seed}/{attempt}")
        stage = dice.choice(fault.among)
        folder = scratch / f"{fault.come.__name__}-{planned.on}-{planned.seed}-{attempt}"
        stages.copy_before(stage, finished, folder)
        trial = Trial(stage, folder, planned.place(folder, dice), finished, dice)
        trial.start()
        try:
            fault.come(trial, *([planned.box] if planned.box else []))
        except TooLate:
            trial.kill()
            trial.clear()
            continue
        done = trial.note_work()
        trial.facts["first_run"] = trial.ended
        if fault.kills:
            trial.facts["in_flight"] = trial.begun()
        trial.mend()
        if fault.kills:
            after = trial.note_work()
            trial.facts["noted_done_again"] = sum(after[block] != done[block] for block in done)
        trial.clear()
        facts = {"fault": fault.name, "on": planned.on, "stage": stage.name, "seed": planned.seed}
        facts |= {"thrown_again": attempt} if attempt else {}
        return facts | trial.facts | {"same": True, "seconds": round(time.monotonic() - began, 1)}
    raise TooLate(f"{_TRIES} runs were over before it came")

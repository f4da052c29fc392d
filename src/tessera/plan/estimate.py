"""What a rule's jobs will cost: work times rates. Pure numbers, no files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tessera.plan.rates import Rate
from tessera.plan.work import Work

_HOUR = 3600.0


@dataclass(frozen=True)
class Placement:
    """How a rule's jobs are placed, as a profile says; None leaves it to the rule.

    Attributes:
        tasks: MPI ranks of a job; ``threads`` of each; ``gpus`` of a job.
        memory: bytes that a job asks for.
        seconds: walltime that a job asks for.
    """

    tasks: int | None = None
    threads: int | None = None
    gpus: int = 0
    memory: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Estimate:
    """The cost of one rule.

    Attributes:
        work: what there is to do.
        cores: of a job; ``gpus`` of a job.
        job_seconds: the longest job, from its start to its end.
        seconds: all jobs, one after the other.
        memory: bytes of a job.
        source: where the rate was measured.
        asked: what the profile asks for each job.
    """

    work: Work
    cores: int
    gpus: int
    job_seconds: float
    seconds: float
    memory: float
    source: str
    asked: Placement

    @property
    def core_hours(self) -> float:
        """Cores that are held, times the hours that they are held."""
        return self.cores * self.seconds / _HOUR

    @property
    def gpu_hours(self) -> float:
        """GPUs that are held, times the hours that they are held."""
        return self.gpus * self.seconds / _HOUR

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "rule": self.work.rule,
            "of": self.work.of,
            "jobs": self.work.jobs,
            "cores": self.cores,
            "gpus": self.gpus,
            "job_seconds": round(self.job_seconds, 2),
            "seconds": round(self.seconds, 2),
            "core_hours": self.core_hours,
            "gpu_hours": self.gpu_hours,
            "memory_mib": round(self.memory / 2**20, 1),
            "read_bytes": round(self.work.read),
            "written_bytes": round(self.work.written),
            "files": self.work.files,
            "source": self.source,
            "work": asdict(self.work),
        }


def estimate(
    work: Work, rate: Rate, asked: Placement | None = None, gpu_speed: float | None = None
) -> Estimate:
    """Return what a rule costs; twice the cores are taken to halve its work.

    Args:
        work: what there is to do.
        rate: what a unit costs.
        asked: how the profile places its jobs.
        gpu_speed: how many cores a GPU is worth for networks; None: GPUs are not counted on.
    """
    asked = asked or Placement()
    tasks, threads = asked.tasks or work.tasks, asked.threads or work.threads
    cores = tasks * threads
    gpus = asked.gpus if work.start == "torch" and work.units else 0
    workers = gpus * gpu_speed if gpus and gpu_speed else cores
    # Each rank of a training does its own batch at every step.
    units = work.units * tasks / work.tasks if work.rule == "train" else work.units
    working = units * rate.seconds / workers
    memory = tasks * (rate.base + rate.held * work.held + rate.more)
    return Estimate(
        work,
        cores,
        gpus,
        rate.start + working * work.share,
        rate.start * work.jobs + working,
        memory,
        rate.source,
        asked,
    )


def elapsed(estimates: Sequence[Estimate], cores: int) -> float:
    """Seconds from the first job to the last on so many cores at once.

    Rules follow each other; the jobs of one rule run beside each other as far as cores go. Two
    models that could run beside each other are counted one after the other.
    """
    total = 0.0
    for found in estimates:
        beside = max(1, min(cores // found.cores, found.work.jobs))
        rounds = math.ceil(found.work.jobs / beside)
        if found.work.jobs:
            # Full rounds of mean jobs, and one of the longest.
            total += (rounds - 1) * found.seconds / found.work.jobs + found.job_seconds
    return total

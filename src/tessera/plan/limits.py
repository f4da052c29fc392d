"""What a cluster's limits would make of a run: walltime, memory, room, number of files."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tessera.plan.estimate import Estimate

_MARGIN = 1.5  # an estimate may be that far off before a job is lost
_GIB = 1024.0**3


@dataclass(frozen=True)
class Limits:
    """What a job or the whole run may take; None is not limited, or not known.

    Attributes:
        seconds: walltime of a job, where the profile asks for none.
        memory: bytes of a job, where the profile asks for none.
        room: bytes that may be written; ``room_said`` who says so.
        files: files and folders that may be made; ``files_said`` who says so.
    """

    seconds: float | None = None
    memory: float | None = None
    room: float | None = None
    files: float | None = None
    room_said: str = "the quota"
    files_said: str = "the quota"


def with_disk(limits: Limits, folder: Path) -> Limits:
    """Fill in what is not limited by the free room and inodes of a folder's file system."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    room, room_said, files, files_said = (
        limits.room,
        limits.room_said,
        limits.files,
        limits.files_said,
    )
    if room is None:
        room, room_said = float(shutil.disk_usage(there).free), "the file system"
    free = os.statvfs(there).f_favail
    if files is None and free > 0:  # some file systems make inodes as they are needed, and say 0
        files, files_said = float(free), "the file system"
    return Limits(limits.seconds, limits.memory, room, files, room_said, files_said)


def findings(estimates: Sequence[Estimate], limits: Limits) -> list[str]:
    """Return a sentence for each limit that the run would break: what, where, what to do."""
    found = [s for e in estimates for s in (*_time(e, limits), *_memory(e, limits))]
    written = sum(e.work.written for e in estimates)
    files = sum(e.work.files for e in estimates)
    if limits.room is not None and written > limits.room:
        most = max(estimates, key=lambda e: e.work.written)
        found.append(
            f"room: {size(written)} will be written, but {limits.room_said} leaves "
            f"{size(limits.room)}; {most.work.name} writes most of it ({size(most.work.written)})"
        )
    if limits.files is not None and files > limits.files:
        most = max(estimates, key=lambda e: e.work.files)
        larger = f"; raise {most.work.size}" if most.work.size else ""
        found.append(
            f"files: {files} will be made, but {limits.files_said} leaves {limits.files:.0f}; "
            f"{most.work.name} makes {most.work.files} of them{larger}"
        )
    return found


def _time(found: Estimate, limits: Limits) -> Iterator[str]:
    allowed = limits.seconds if found.asked.seconds is None else found.asked.seconds
    if allowed is None or found.job_seconds * _MARGIN <= allowed:
        return
    said = f"{found.work.name}: a job takes about {span(found.job_seconds)}, its walltime is "
    said += span(allowed)
    if found.work.batches:
        jobs = math.ceil(found.work.jobs * found.job_seconds * _MARGIN / allowed)
        remedy = f"set {found.work.batches} to {jobs}, or ask for more time or ranks"
    else:
        remedy = f"ask for {span(found.job_seconds * _MARGIN)}, or for more ranks"
    if found.job_seconds > allowed:
        yield f"{said}; {remedy}"
    else:
        yield f"{said}, which leaves little; {remedy}"


def _memory(found: Estimate, limits: Limits) -> Iterator[str]:
    allowed = limits.memory if found.asked.memory is None else found.asked.memory
    if allowed is not None and found.memory > allowed:
        smaller = f", or lower {found.work.size}" if found.work.size else ""
        yield (
            f"{found.work.name}: a job takes about {size(found.memory)} of memory and gets "
            f"{size(allowed)}; ask for more{smaller}"
        )


def span(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 119.5 else f"{minutes / 60:.1f} h"


def size(count: float) -> str:
    """Return bytes as people say them."""
    for unit, scale in (("TiB", 1024 * _GIB), ("GiB", _GIB)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 2**20:.0f} MiB"

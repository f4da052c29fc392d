"""Seconds and peak memory of the process, as the kernel counts them."""

from __future__ import annotations

import resource


def peak_mib() -> float:
    """Return the largest resident size that this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cpu_seconds() -> float:
    """Return the processor seconds that this process has used, in all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime

"""Seconds and peak memory of the process, as the kernel counts them."""

from __future__ import annotations

import resource

_STATUS = "/proc/self/status"


def peak_mib() -> float:
    """Return the largest resident size that this process ever had, in MiB."""
    # getrusage counts what the process had been before it became this program: the parent's size.
    try:
        with open(_STATUS, "rb") as file:
            for line in file:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) / 1024
    except OSError:  # not Linux
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cpu_seconds() -> float:
    """Return the processor seconds that this process has used, in all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime

"""Freed memory is used again: the system is not asked for it twice."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Pages that the system had to supply to write 256 MiB, for the third time.
_THIRD_TIME = """
import resource, sys
import numpy as np
from tessera.compute.heap import keep_freed

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "keep":
    keep_freed()
for _ in range(3):
    began = faults()
    np.empty(2**28, np.uint8).fill(1)
print(faults() - began)
"""


def _pages(how: str) -> int:
    call = [sys.executable, "-c", _THIRD_TIME, how]
    return int(subprocess.run(call, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again() -> None:
    assert _pages("usual") > 100  # of 2 MiB, or many more of 4 KiB
    assert _pages("keep") < 10

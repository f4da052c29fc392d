"""Memory for large arrays that come and go: asked of the system once, in large pages.

As it stands, the C library asks the system for each array above 32 MiB and returns it as soon as it
is freed. The next layer's map is then fresh memory, which the system first fills with zeros, page
by page: a third of the time of a network's training or inference on a virtual machine.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3)


def keep_freed() -> None:
    """Let this process use freed memory again, for its life, and ask for it in large pages.

    Called before torch is imported, which reads the environment then. What is freed is not
    returned, so the process stays as large as it ever was, and up to a third larger, as arrays of
    many sizes leave gaps. Does nothing where the C library is not glibc.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)

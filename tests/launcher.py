"""How tests start several ranks: with the workflow's own launcher, found beside this Python."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "workflow/scripts/mpiexec"
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
ENVIRONMENT = os.environ | {
    "PATH": PATH,
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}

MPIEXEC = shutil.which("mpiexec", path=PATH)
needs_mpi = pytest.mark.skipif(MPIEXEC is None, reason="no mpiexec here; make setup brings one")


def on_ranks(count: int) -> list[str]:
    """What stands before a command that is to be so many ranks (with ``ENVIRONMENT``)."""
    return ["sh", str(SCRIPT), "--oversubscribe", "--bind-to", "none", "-n", str(count)]

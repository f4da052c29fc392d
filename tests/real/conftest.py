"""An example of ``examples/`` run as it stands: its data lie beside the folder it runs in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
Run = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def run_example(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that makes a target of an example, below a folder of the test's own.

    It takes the example's name and the target within the specimen's results, and returns the
    folder of these results. Nothing in the file is changed but, by where it runs, ``results``.
    """
    scripts = Path(sys.executable).parent
    snakemake = shutil.which("snakemake", path=str(scripts)) or "snakemake"

    def run(name: str, target: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        (folder / "shared").symlink_to(REPO.parent / "shared")  # the files say ../shared/data
        here = folder / "run"
        here.mkdir()
        subprocess.run(
            [
                snakemake, "--profile", str(REPO / "profiles/local"), "--snakefile",
                str(REPO / "Snakefile"), "--directory", str(here), "--configfile",
                str(REPO / "examples" / f"{name}.yaml"), "--", f"results/{name}/{target}",
            ],
            env={**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"},
            check=True,
        )  # fmt: skip
        return here / "results" / name

    return run

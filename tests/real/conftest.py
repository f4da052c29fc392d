"""An example of ``examples/`` run as it stands: its data lie beside the folder it runs in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]
Run = Callable[..., Path]


@pytest.fixture(scope="session")
def run_example(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Run:
    """Return a function that makes a target of an example, below a folder of the test's own.

    It takes the example's name, the target within the specimen's results and, for a training that
    is cut short unless ``--whole`` is given, its steps; and what the section ``predict`` says
    besides. It returns the folder of these results.
    """
    scripts = Path(sys.executable).parent
    snakemake = shutil.which("snakemake", path=str(scripts)) or "snakemake"

    def run(name: str, target: str, steps: int | None = None, **predict: float) -> Path:
        folder = tmp_path_factory.mktemp(name)
        (folder / "shared").symlink_to(REPO.parent / "shared")  # the files say ../shared/data
        here = folder / "run"
        here.mkdir()
        config = yaml.safe_load((REPO / "examples" / f"{name}.yaml").read_text())
        if steps and not request.config.getoption("--whole"):
            for model in config["models"].values():
                model["steps"] = steps
        config["predict"] |= predict
        (here / "config.yaml").write_text(yaml.safe_dump(config))
        subprocess.run(
            [
                snakemake, "--profile", str(REPO / "profiles/local"), "--snakefile",
                str(REPO / "Snakefile"), "--directory", str(here), "--configfile",
                str(here / "config.yaml"), "--", f"results/{name}/{target}",
            ],
            env={**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"},
            check=True,
        )  # fmt: skip
        return here / "results" / name

    return run

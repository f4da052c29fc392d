"""A small specimen for tests of the whole way, and how the workflow is run on it.

It goes the whole way once, undisturbed, for all tests: the fixture `finished` of tests/conftest.py.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parents[2]
LIMIT_S = 900

SMALL: dict[str, Any] = {
    "specimen": "small",
    "simulate": {
        "seed": 3,
        "shape": [32, 96, 96],
        "tiles": [1, 1, 2],
        "overlap_vox": 32,
        "angles": 121,
        "somas": 12,
        "vessels": 3,
        "fibres": 6,
    },
    "recon": {"rows": 16},
    "mosaic": {"batches": 2, "shard": [32, 32, 32], "chunk": [16, 16, 16], "levels": 2},
    "models": {
        "tissue": {
            "net": "unet3d",
            "classes": ["background", "soma", "vessel"],
            "split": {
                "train": [{"stop": [32, 96, 56]}],
                "test": [{"start": [0, 0, 60], "stop": [32, 96, 96]}],
            },
            "channels": [4, 8],
            "patch": [32, 32, 32],
            "steps": 12,
            "batch": 1,
            "checkpoint_every": 3,
            "validate_every": 6,
        }
    },
    "predict": {"batches": 2, "block": [32, 32, 32], "chunk": [16, 16, 16]},
    "label": {"batches": 2, "block": [32, 32, 32], "min_voxels": 10},
    "evaluate": {"bootstrap": 50},
}

# The same bytes from fewer jobs, for schedulers: each job there starts two Snakemakes of its own.
FEWER_JOBS = SMALL | {
    "mosaic": SMALL["mosaic"] | {"batches": 1},
    "label": SMALL["label"] | {"batches": 1},
}


def environment(base: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a user who has set tessera up: its commands come first on the path."""
    env = dict(os.environ if base is None else base)
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    return env


def write_config(folder: Path, settings: dict[str, Any], name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(settings))
    return path


def command(folder: Path, config: Path | None, *more: str, profile: str = "local") -> list[str]:
    """The command line of Snakemake on a folder, as the README gives it."""
    slurm = "slurm" in Path(profile).name
    line = [sys.executable, str(REPO / "tests/cluster/impatient.py")] if slurm else ["snakemake"]
    line += ["--snakefile", str(REPO / "Snakefile")]
    line += ["--profile", str(REPO / "profiles" / profile), "--directory", str(folder)]
    line += ["--configfile", str(config)] if config else []
    return [*line, "--nolock", *more]


def snakemake(
    folder: Path,
    config: Path | None,
    *more: str,
    profile: str = "local",
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the workflow to its end, with a limit that even a hung Snakemake cannot outlive."""
    return subprocess.run(
        ["timeout", "-s", "KILL", str(LIMIT_S), *command(folder, config, *more, profile=profile)],
        env=environment(env),
        text=True,
        capture_output=True,
        check=False,
    )


def contents(results: Path) -> dict[str, str]:
    """Hash of every file that holds a result: volumes, models, tables, scores."""
    kinds = ("zarr", "safetensors", "csv")
    found = {}
    for path in sorted(results.rglob("*")):
        name = str(path.relative_to(results))
        shard = any(part.endswith(".zarr") for part in path.parts)
        if not path.is_file() or not (shard or path.suffix[1:] in kinds or path.suffix == ".npz"):
            continue
        if any(part in name for part in ("checkpoint", "benchmarks", "records/")):
            continue
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found

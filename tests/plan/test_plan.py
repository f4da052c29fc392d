"""The command: what it counts is what the workflow does; a large volume costs it nothing more."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
import zarr

from tessera import cli
from tessera.config import parse_config
from tessera.plan.command import plan
from tessera.plan.stages import data_of, works
from tests.workflow.small import REPO, SMALL, environment

# The largest memory of a command alone: of a large parent, it would count the parent's.
WATCH = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def dry_run(config: Path, folder: Path) -> tuple[dict[str, int], int]:
    """Jobs by rule that Snakemake itself would run, and the KiB that it takes to say so."""
    line = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--cores", "2"]
    line += ["--directory", str(folder), "--configfile", str(config), "-s", str(REPO / "Snakefile")]
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *line],
        capture_output=True, text=True, env=environment(), timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    found = re.findall(r"^([a-z_]+) +(\d+)$", done.stdout, re.M)
    jobs = {rule: int(count) for rule, count in found if rule not in ("all", "total")}
    return jobs, int(done.stdout.split()[-1])


def write(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def large(folder: Path, side: int, block: int) -> dict[str, Any]:
    """Settings of a volume that holds nothing yet but says how large it is."""
    zarr.create_array(
        str(folder / "large.zarr"), shape=(side,) * 3, chunks=(64,) * 3, dtype="uint8"
    )
    sizes = {"block": [block] * 3}
    return {
        "specimen": "large",
        "volume": {"path": str(folder / "large.zarr"), "voxel_um": [1, 1, 1]},
        "mosaic": {"dtype": "uint8", "shard": [block] * 3, "chunk": [block] * 3, "levels": 1},
        "models": {
            "cells": {
                "classes": ["background", "soma"],
                "channels": [4, 8],
                "labels": [{"path": str(folder / "large.zarr")}],
                "patch": [16, 16, 16],
                "steps": 10,
            }
        },
        "predict": {**sizes, "chunk": [block] * 3},
        "label": sizes,
    }


def test_jobs_are_those_of_the_workflow(tmp_path: Path) -> None:
    config = write(tmp_path, SMALL)
    counted: dict[str, int] = {}
    for work in works(parse_config(SMALL)):
        counted[work.rule] = counted.get(work.rule, 0) + work.jobs
    ran, _ = dry_run(config, tmp_path)
    ran.pop("plan", None)  # it is no work
    assert counted == ran


def test_jobs_of_a_flood_filling_network(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "fibres.h5", "w") as file:
        file["raw"] = np.ones((28, 40, 60), np.uint8)
        file["ids"] = np.ones((28, 40, 60), np.uint32)
    source = {"path": str(tmp_path / "fibres.h5"), "dataset": "raw", "voxel_um": [1, 1, 1]}
    settings: dict[str, Any] = {
        "specimen": "fibres",
        "volume": source,
        "models": {
            "cells": {
                "net": "ffn",
                "classes": ["background", "neuron"],
                "labels": [{"path": source["path"], "dataset": "ids", "instances_of": "neuron"}],
                "net_options": {"depth": 3, "features": 8, "fov": 9, "deltas": 2},
            }
        },
        "predict": {"fill": {"subvolume": [32, 40, 32], "overlap_vox": 10}},
        "label": {"classes": ["neuron"], "assembly": {"agglomerate": True}},
    }
    parsed = parse_config(settings)
    counted: dict[str, int] = {}
    for work in works(parsed):
        counted[work.rule] = counted.get(work.rule, 0) + work.jobs
    ran, _ = dry_run(write(tmp_path, settings), tmp_path)
    ran.pop("plan", None)
    assert counted == ran


def test_a_million_blocks(tmp_path: Path) -> None:
    settings = large(tmp_path, 800, 8)
    config = write(tmp_path, settings)
    parsed = parse_config(settings)
    found = {w.rule: w for w in works(parsed, data_of(parsed))}
    assert found["label_local"].blocks == 10**6
    assert found["predict"].jobs == found["label_local"].jobs == 250
    # One file a shard, and one record, log and benchmark a batch; folders are c/z/y.
    assert found["label_relabel"].files == 10**6 + 100**2 + 100 + 5 + 3 * 250
    ran, peak = dry_run(config, tmp_path)
    assert sum(ran.values()) < 1100
    assert peak < 1 << 20  # KiB: 1 GiB


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path, SMALL | {"results": str(tmp_path / "results")})
    to = tmp_path / "results" / "small" / "plan" / "plan.json"
    given = ["plan", str(config), "--json", str(to), "--cores", "2", "--inodes", "20"]
    assert cli.main(given) == 0
    said = capsys.readouterr().out
    assert "files: " in said and "the quota leaves 20" in said and "calibration" in said
    plan = json.loads(to.read_text())
    names = [rule["rule"] for rule in plan["rules"]]
    assert names[0] == "simulate_truth" and names[-1] == "report"
    assert all(rule["seconds"] > 0 for rule in plan["rules"])

    # What a run took is believed before what a calibration says.
    folder = to.parents[1] / "label" / "benchmarks"
    folder.mkdir(parents=True)
    for batch in range(2):
        (folder / f"tissue_soma_local_{batch:04d}.tsv").write_text("s\tmax_rss\n500\t300\n")
    assert cli.main(["plan", str(config), "--json", str(to)]) == 0
    rules = {rule["rule"]: rule for rule in json.loads(to.read_text())["rules"]}
    assert rules["label_local"]["seconds"] == pytest.approx(1000, rel=0.01)
    assert rules["label_local"]["memory_mib"] == pytest.approx(300, rel=0.01)
    assert rules["label_local"]["source"] == "small"


def test_what_cannot_be_tried_here_is_guessed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tomopy", None)
    settings = SMALL | {"recon": {"backend": "tomopy"}, "models": {}, "label": {"classes": []}}
    found = {e.work.rule: e for e in plan(parse_config(settings))}
    assert found["recon"].source == "a guess" and found["mosaic_fuse"].source == "calibration"
    assert "recon could not be tried here" in capsys.readouterr().err
    mpixel = found["recon"].work.units
    assert found["recon"].seconds > 0.5 * mpixel


def test_bad_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan"]) == 2
    assert cli.main(["plan", "--settings", "{"]) == 2
    assert cli.main(["plan", "--settings", '{"specimen": "x"}']) == 2
    assert "give a config" in capsys.readouterr().err
